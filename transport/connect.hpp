// SPDX-License-Identifier: Apache-2.0
#pragma once
// Connects to the first of several endpoints that answers: asio::connect and
// asio::async_connect for our sockets.

#include <transport/socket.hpp>

#include <boost/asio/append.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/post.hpp>

#include <iterator>
#include <utility>

namespace dibsock {

// Results of a resolver, or any range of endpoints.
template <class Type>
concept endpoint_sequence = requires(const Type& range) {
  { *std::begin(range) } -> std::convertible_to<boost::asio::ip::tcp::endpoint>;
  std::end(range);
};

struct any_endpoint {
  bool operator()(const boost::system::error_code&, const boost::asio::ip::tcp::endpoint&) const {
    return true;
  }
};

// Returns the endpoint that answered. error::not_found if the range is empty,
// else what the last one said. Only endpoints for which `condition(last error,
// endpoint)` is true are tried.
template <class Executor, endpoint_sequence Endpoints, class Condition = any_endpoint>
requires std::invocable<Condition&, boost::system::error_code, boost::asio::ip::tcp::endpoint>
    boost::asio::ip::tcp::endpoint connect(basic_socket<Executor>& on, const Endpoints& to,
                                           Condition condition, boost::system::error_code& code) {
  code = boost::asio::error::not_found;
  boost::system::error_code last;
  for (const auto& entry : to) {
    const boost::asio::ip::tcp::endpoint each(entry);
    if (!condition(std::as_const(last), each)) continue;
    boost::system::error_code ignored;
    on.close(ignored);
    if (!on.connect(each, code)) return each;
    last = code;
  }
  return {};
}
template <class Executor, endpoint_sequence Endpoints>
boost::asio::ip::tcp::endpoint connect(basic_socket<Executor>& on, const Endpoints& to,
                                       boost::system::error_code& code) {
  return connect(on, to, any_endpoint(), code);
}
template <class Executor, endpoint_sequence Endpoints>
boost::asio::ip::tcp::endpoint connect(basic_socket<Executor>& on, const Endpoints& to) {
  boost::system::error_code code;
  const auto found = connect(on, to, any_endpoint(), code);
  detail::throw_if(code, "connect");
  return found;
}

namespace detail {

// For async_compose.
template <class Executor, class Endpoints, class Condition>
class range_connect_op {
 public:
  range_connect_op(basic_socket<Executor>& on, const Endpoints& to, Condition condition)
      : socket_(&on), to_(to), condition_(std::move(condition)) {}

  template <class Self>
  void operator()(Self& self) {
    self.reset_cancellation_state(boost::asio::enable_total_cancellation());
    go_on(self, true);
  }
  template <class Self>
  void operator()(Self& self, boost::system::error_code code) {
    if (was_idle_) return self.complete(code, {});
    if (!code) return self.complete(code, endpoint_at(tried_));
    if (code == boost::asio::error::operation_aborted || !socket_->is_open() ||
        self.get_cancellation_state().cancelled() != boost::asio::cancellation_type::none) {
      return self.complete(boost::asio::error::operation_aborted, {});
    }
    last_ = code;
    ++tried_;
    go_on(self, false);
  }

 private:
  template <class Self>
  void go_on(Self& self, bool is_first) {
    const std::size_t count =
        static_cast<std::size_t>(std::distance(std::begin(to_), std::end(to_)));
    while (tried_ < count && !condition_(std::as_const(last_), endpoint_at(tried_))) ++tried_;
    if (tried_ < count) {
      boost::system::error_code ignored;
      socket_->close(ignored);
      socket_->async_connect(endpoint_at(tried_), std::move(self));
      return;
    }
    if (!last_) last_ = boost::asio::error::not_found;
    if (!is_first) return self.complete(last_, {});
    was_idle_ = true;
    const auto executor = self.get_executor();
    const boost::system::error_code code = last_;
    boost::asio::post(executor, boost::asio::append(std::move(self), code));
  }
  [[nodiscard]] boost::asio::ip::tcp::endpoint endpoint_at(std::size_t index) const {
    return *std::next(std::begin(to_), static_cast<std::ptrdiff_t>(index));
  }

  basic_socket<Executor>* socket_;
  Endpoints to_;
  Condition condition_;
  std::size_t tried_ = 0;
  boost::system::error_code last_;
  bool was_idle_ = false;  // nothing to try at all
};

}  // namespace detail

// Handler: void(error_code, endpoint). The socket must stay valid until then;
// closing it, or cancelling, ends the operation.
template <class Executor, endpoint_sequence Endpoints, class Condition,
          boost::asio::completion_token_for<void(boost::system::error_code,
                                                 boost::asio::ip::tcp::endpoint)>
              Token>
requires std::invocable<Condition&, boost::system::error_code, boost::asio::ip::tcp::endpoint>
auto async_connect(basic_socket<Executor>& on, const Endpoints& to, Condition condition,
                   Token&& token) {
  return boost::asio::async_compose<Token, void(boost::system::error_code,
                                                boost::asio::ip::tcp::endpoint)>(
      detail::range_connect_op<Executor, Endpoints, Condition>(on, to, std::move(condition)), token,
      on.get_executor());
}
template <class Executor, endpoint_sequence Endpoints,
          boost::asio::completion_token_for<void(boost::system::error_code,
                                                 boost::asio::ip::tcp::endpoint)>
              Token = boost::asio::default_completion_token_t<Executor>>
auto async_connect(basic_socket<Executor>& on, const Endpoints& to,
                   Token&& token = boost::asio::default_completion_token_t<Executor>()) {
  return async_connect(on, to, any_endpoint(), std::forward<Token>(token));
}

}  // namespace dibsock
