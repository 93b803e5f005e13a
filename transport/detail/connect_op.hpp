// SPDX-License-Identifier: Apache-2.0
#pragma once
// Connecting: the kernel's connect() between a look for the listener and the
// record that tells it of us.

#include <transport/detail/meeting.hpp>
#include <transport/detail/process.hpp>
#include <transport/detail/stream.hpp>

#include <boost/asio/append.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/socket_base.hpp>

#include <memory>
#include <utility>

namespace dibsock::detail {

// For async_compose, unless start() was all.
class connect_op {
 public:
  connect_op(std::shared_ptr<stream> on, const boost::asio::ip::tcp::endpoint& to)
      : stream_(std::move(on)), to_(to) {}

  // As far as it goes without waiting. False: it takes longer.
  [[nodiscard]] bool start(boost::system::error_code& code) {
    stream& on = *stream_;
    if ((code = on.kernel.hand_over())) return true;
    stack_ = this_stack();
    remote_ = key_of(to_).reached();
    may_meet_ = may_meet(stack_.get(), on.kernel.native_handle(), remote_);
    if (!may_meet_) return false;
    code = on.kernel.connect_nearby(to_);
    is_pending_ = code == boost::asio::error::in_progress;
    if (!code) finish(code);
    return !is_pending_;
  }

  template <class Self>
  void operator()(Self& self) {
    self.reset_cancellation_state(boost::asio::enable_total_cancellation());
    auto& kernel = stream_->kernel.asio();
    const boost::asio::ip::tcp::endpoint to = to_;
    if (!is_pending_) return kernel.async_connect(to, std::move(self));
    kernel.async_wait(boost::asio::socket_base::wait_write, std::move(self));
  }

  template <class Self>
  void operator()(Self& self, boost::system::error_code code) {
    if (!code && is_pending_) code = stream_->kernel.pending_error();
    if (!code) finish(code);
    stream_.reset();
    self.complete(code);
  }

 private:
  // The kernel is connected.
  void finish(boost::system::error_code& code) {
    code = stream_->begin(std::move(stack_), smcd::handshake_role::client, remote_, may_meet_);
  }

  std::shared_ptr<stream> stream_;
  boost::asio::ip::tcp::endpoint to_;
  std::shared_ptr<smcd::stack> stack_;
  dibs::inet_address remote_;
  bool may_meet_ = false;
  bool is_pending_ = false;
};

// The function behind async_connect.
template <class Executor>
class initiate_connect {
 public:
  using executor_type = Executor;
  explicit initiate_connect(const Executor& executor) : executor_(executor) {}
  [[nodiscard]] const Executor& get_executor() const noexcept { return executor_; }

  // `failure`: the socket could not even be opened.
  template <class Handler>
  void operator()(Handler handler, connect_op op, boost::system::error_code failure) const {
    if (failure || op.start(failure)) {
      return boost::asio::post(executor_, boost::asio::append(std::move(handler), failure));
    }
    boost::asio::async_compose<Handler, void(boost::system::error_code)>(std::move(op), handler,
                                                                         executor_);
  }

 private:
  Executor executor_;
};

}  // namespace dibsock::detail
