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
    if (failure_) {
      const auto executor = self.get_executor();
      const boost::system::error_code failure = failure_;
      return boost::asio::post(executor, boost::asio::append(std::move(self), failure));
    }
    stream& on = *stream_;
    stack_ = this_stack();
    remote_ = key_of(to_).reached();
    may_meet_ = may_meet(stack_.get(), on.kernel.native_handle(), remote_);
    const boost::asio::ip::tcp::endpoint to = to_;
    on.kernel.asio().async_connect(to, std::move(self));
  }

  template <class Self>
  void operator()(Self& self, boost::system::error_code code) {
    if (!code) {
      code = stream_->begin(std::move(stack_), smcd::handshake_role::client, remote_, may_meet_);
    }
    stream_.reset();
    self.complete(code);
  }

 private:
  std::shared_ptr<stream> stream_;
  boost::asio::ip::tcp::endpoint to_;
  boost::system::error_code failure_;
  std::shared_ptr<smcd::stack> stack_;
  dibs::inet_address remote_;
  bool may_meet_ = false;
};

}  // namespace dibsock::detail
