// SPDX-License-Identifier: Apache-2.0
#pragma once
// Accepting: the kernel's acceptor, the listener that tells clients of it, and
// what becomes of an accepted socket.

#include <transport/detail/meeting.hpp>
#include <transport/detail/process.hpp>
#include <transport/detail/stream.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/append.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>

#include <cerrno>
#include <memory>
#include <mutex>
#include <utility>

namespace dibsock::detail {

// An open acceptor. Operations hold it; one thread may accept while another
// one closes.
class acceptance {
 public:
  using kernel_acceptor =
      boost::asio::basic_socket_acceptor<boost::asio::ip::tcp, boost::asio::any_io_executor>;

  explicit acceptance(const boost::asio::any_io_executor& executor) : kernel(executor) {}

  kernel_acceptor kernel;

  // The kernel listens.
  void publish() {
    const std::lock_guard lock(mutex_);
    listener_.publish(this_stack(), kernel.native_handle());
  }

  boost::system::error_code close() {
    boost::system::error_code code;
    const std::lock_guard lock(mutex_);
    listener_.withdraw();
    kernel.close(code);
    return code;
  }

  // With a thread that waits, unless non_blocking().
  boost::system::error_code accept(stream& to, boost::asio::ip::tcp::endpoint& peer,
                                   boost::system::error_code& code) {
    namespace error = boost::asio::error;
    while (to.kernel.accept_from(kernel.native_handle(), peer, code)) {
      if (code == error::connection_aborted || code.value() == EPROTO) {
        boost::asio::socket_base::enable_connection_aborted is_told;
        boost::system::error_code ignored;
        kernel.get_option(is_told, ignored);
        if (is_told.value()) return code;
      } else if (code != error::would_block) {
        return code;
      }
      if (kernel.wait(boost::asio::socket_base::wait_read, code)) return code;
    }
    return code = begin(to, peer);
  }

  // `accepted` holds a connection of ours, from `peer`.
  [[nodiscard]] boost::system::error_code begin(stream& accepted,
                                                const boost::asio::ip::tcp::endpoint& peer) {
    bool may_meet = false;
    {
      const std::lock_guard lock(mutex_);
      may_meet = listener_.is_published();
    }
    return accepted.begin(this_stack(), smcd::handshake_role::server, key_of(peer), may_meet);
  }

 private:
  std::mutex mutex_;
  published_listener listener_;
};

// For async_compose. Where to put the socket, and what to say with it, is told
// by `Target`: make() gives the stream to accept into, which is adopted by
// complete(self, error_code).
template <class Target>
class accept_op {
 public:
  accept_op(std::shared_ptr<acceptance> from, Target target, boost::asio::ip::tcp::endpoint* peer)
      : from_(std::move(from)), target_(std::move(target)), peer_(peer) {}

  template <class Self>
  void operator()(Self& self) {
    self.reset_cancellation_state(boost::asio::enable_total_cancellation());
    boost::system::error_code failure;
    if (from_ == nullptr) {
      failure = boost::asio::error::bad_descriptor;
    } else {
      failure = target_.failure();
    }
    if (failure) {
      const auto executor = self.get_executor();
      return boost::asio::post(executor, boost::asio::append(std::move(self), failure));
    }
    stream_ = std::make_shared<stream>(target_.get_executor());
    address_ = std::make_unique<boost::asio::ip::tcp::endpoint>();
    acceptance& from = *from_;
    stream& to = *stream_;
    boost::asio::ip::tcp::endpoint& peer = peer_ != nullptr ? *peer_ : *address_;
    from.kernel.async_accept(to.kernel.asio(), peer, std::move(self));
  }

  template <class Self>
  void operator()(Self& self, boost::system::error_code code) {
    if (!code) {
      const boost::asio::ip::tcp::endpoint& peer = peer_ != nullptr ? *peer_ : *address_;
      stream_->kernel.take_over(peer.protocol());
      code = from_->begin(*stream_, peer);
    }
    from_.reset();
    Target target(std::move(target_));
    target.complete(self, code, code ? nullptr : std::move(stream_));
  }

 private:
  std::shared_ptr<acceptance> from_;
  Target target_;
  boost::asio::ip::tcp::endpoint* peer_;  // of the caller, or null
  std::unique_ptr<boost::asio::ip::tcp::endpoint> address_;
  std::shared_ptr<stream> stream_;
};

// Accepts into a socket that the caller has.
template <class Socket>
class into_socket {
 public:
  explicit into_socket(Socket& peer) noexcept : peer_(&peer) {}
  [[nodiscard]] auto get_executor() const noexcept { return peer_->get_executor(); }
  [[nodiscard]] boost::system::error_code failure() const noexcept {
    if (peer_->is_open()) return boost::asio::error::already_open;
    return {};
  }
  template <class Self>
  void complete(Self& self, boost::system::error_code code, std::shared_ptr<stream> made) {
    if (!code) peer_->adopt(std::move(made));
    self.complete(code);
  }

 private:
  Socket* peer_;
};

// Hands the handler a new socket.
template <class Socket>
class new_socket {
 public:
  explicit new_socket(const typename Socket::executor_type& executor) : executor_(executor) {}
  [[nodiscard]] auto get_executor() const noexcept { return executor_; }
  [[nodiscard]] boost::system::error_code failure() const noexcept { return {}; }
  template <class Self>
  void complete(Self& self, boost::system::error_code code, std::shared_ptr<stream> made) {
    Socket peer(executor_);
    if (!code) peer.adopt(std::move(made));
    self.complete(code, std::move(peer));
  }

 private:
  typename Socket::executor_type executor_;
};

}  // namespace dibsock::detail
