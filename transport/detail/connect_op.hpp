// SPDX-License-Identifier: Apache-2.0
#pragma once
// Connecting: the kernel's connect() between a look for the listener and the
// record that tells it of us.

#include <transport/detail/meeting.hpp>
#include <transport/detail/process.hpp>
#include <transport/detail/stream.hpp>

#include <boost/asio/append.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/socket_base.hpp>

#include <memory>
#include <utility>

namespace dibsock::detail {

// For async_compose.
class connect_op {
 public:
  // `failure`: the socket could not even be opened.
  connect_op(std::shared_ptr<stream> on, const boost::asio::ip::tcp::endpoint& to,
             boost::system::error_code failure)
      : stream_(std::move(on)), to_(to), failure_(failure) {}

  template <class Self>
  void operator()(Self& self) {
    self.reset_cancellation_state(boost::asio::enable_total_cancellation());
    if (!failure_) failure_ = stream_->kernel.hand_over();
    if (failure_) return post(self, failure_);
    stream& on = *stream_;
    stack_ = this_stack();
    remote_ = key_of(to_).reached();
    may_meet_ = may_meet(stack_.get(), on.kernel.native_handle(), remote_);
    const boost::asio::ip::tcp::endpoint to = to_;
    if (!may_meet_) return on.kernel.asio().async_connect(to, std::move(self));
    const boost::system::error_code code = on.kernel.connect_nearby(to);
    if (code != boost::asio::error::in_progress) return post(self, code);
    is_pending_ = true;
    on.kernel.asio().async_wait(boost::asio::socket_base::wait_write, std::move(self));
  }

  template <class Self>
  void operator()(Self& self, boost::system::error_code code) {
    if (!code && is_pending_) code = stream_->kernel.pending_error();
    if (!code) {
      code = stream_->begin(std::move(stack_), smcd::handshake_role::client, remote_, may_meet_);
    }
    stream_.reset();
    self.complete(code);
  }

 private:
  template <class Self>
  static void post(Self& self, const boost::system::error_code& code) {
    const auto executor = self.get_executor();
    boost::asio::post(executor, boost::asio::append(std::move(self), code));
  }

  std::shared_ptr<stream> stream_;
  boost::asio::ip::tcp::endpoint to_;
  boost::system::error_code failure_;
  std::shared_ptr<smcd::stack> stack_;
  dibs::inet_address remote_;
  bool may_meet_ = false;
  bool is_pending_ = false;
};

}  // namespace dibsock::detail
