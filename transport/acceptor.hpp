// SPDX-License-Identifier: Apache-2.0
#pragma once
// dibsock::acceptor: accepts connections of dibsock clients, of programs under
// the preload library, and of plain TCP clients, on one port. Whoever comes is
// served at once; those who can move to shared memory while they talk.

#include <transport/detail/acceptor_face.hpp>
#include <transport/socket.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/execution/executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/is_executor.hpp>

#include <concepts>

namespace dibsock {

template <class Type>
concept executor_like =
    boost::asio::is_executor<Type>::value || boost::asio::execution::is_executor<Type>::value;
template <class Type>
concept context_like = std::convertible_to<Type&, boost::asio::execution_context&>;

// Use it as asio::ip::tcp::acceptor. Distinct objects: safe. Shared objects:
// unsafe, but several async_accept() may be outstanding; they can be cancelled
// (terminal, partial, total).
template <class Executor = boost::asio::any_io_executor>
class basic_acceptor : public detail::acceptor_face<Executor> {
  using face = detail::acceptor_face<Executor>;
  using default_token = boost::asio::default_completion_token_t<Executor>;
  template <class Other>
  using new_signature = void(boost::system::error_code, basic_socket<Other>);

 public:
  using typename face::endpoint_type;
  using typename face::error_code;
  using typename face::executor_type;
  using socket_type = basic_socket<Executor>;
  template <class Other>
  struct rebind_executor {
    using other = basic_acceptor<Other>;
  };

  explicit basic_acceptor(const executor_type& executor) : face(executor) {}
  template <context_like Context>
  explicit basic_acceptor(Context& context) : face(context.get_executor()) {}
  // Opened, bound, and listening.
  basic_acceptor(const executor_type& executor, const endpoint_type& at, bool reuses_address = true)
      : face(executor) {
    this->open(at.protocol());
    if (reuses_address) this->set_option(typename face::reuse_address(true));
    this->bind(at);
    this->listen();
  }
  template <context_like Context>
  basic_acceptor(Context& context, const endpoint_type& at, bool reuses_address = true)
      : basic_acceptor(context.get_executor(), at, reuses_address) {}

  // What was moved from is as if just constructed. Operations under way go on.
  basic_acceptor(basic_acceptor&&) noexcept = default;
  basic_acceptor& operator=(basic_acceptor&&) noexcept = default;

  // ---- into a socket that is not open ----------------------------------------
  // The peer's address goes into `from`, if given.

  template <class Other>
  void accept(basic_socket<Other>& peer) {
    error_code code;
    detail::throw_if(accept(peer, code), "accept");
  }
  template <class Other>
  error_code accept(basic_socket<Other>& peer, error_code& code) {
    return accept_into(peer, nullptr, code);
  }
  template <class Other>
  void accept(basic_socket<Other>& peer, endpoint_type& from) {
    error_code code;
    detail::throw_if(accept(peer, from, code), "accept");
  }
  template <class Other>
  error_code accept(basic_socket<Other>& peer, endpoint_type& from, error_code& code) {
    return accept_into(peer, &from, code);
  }

  // Handlers: void(error_code). `peer` and `from` must stay valid until then.
  template <class Other, boost::asio::completion_token_for<void(error_code)> Token = default_token>
  auto async_accept(basic_socket<Other>& peer, Token&& token = default_token()) {
    return start<void(error_code)>(detail::into_socket(peer), nullptr, token);
  }
  template <class Other, boost::asio::completion_token_for<void(error_code)> Token = default_token>
  auto async_accept(basic_socket<Other>& peer, endpoint_type& from,
                    Token&& token = default_token()) {
    return start<void(error_code)>(detail::into_socket(peer), &from, token);
  }

  // ---- as a new socket ---------------------------------------------------------
  // Which runs on our executor, or on the executor or context that comes first.

  [[nodiscard]] socket_type accept() { return accept(this->get_executor()); }
  socket_type accept(error_code& code) { return accept(this->get_executor(), code); }
  [[nodiscard]] socket_type accept(endpoint_type& from) {
    return accept(this->get_executor(), from);
  }
  socket_type accept(endpoint_type& from, error_code& code) {
    return accept(this->get_executor(), from, code);
  }

  template <executor_like Other>
  [[nodiscard]] basic_socket<Other> accept(const Other& executor) {
    basic_socket<Other> peer(executor);
    accept(peer);
    return peer;
  }
  template <executor_like Other>
  basic_socket<Other> accept(const Other& executor, error_code& code) {
    basic_socket<Other> peer(executor);
    accept(peer, code);
    return peer;
  }
  template <executor_like Other>
  [[nodiscard]] basic_socket<Other> accept(const Other& executor, endpoint_type& from) {
    basic_socket<Other> peer(executor);
    accept(peer, from);
    return peer;
  }
  template <executor_like Other>
  basic_socket<Other> accept(const Other& executor, endpoint_type& from, error_code& code) {
    basic_socket<Other> peer(executor);
    accept(peer, from, code);
    return peer;
  }
  template <context_like Context, class... Rest>
  auto accept(Context& context, Rest&... from_and_code) {
    return accept(context.get_executor(), from_and_code...);
  }

  // Handlers: void(error_code, basic_socket<its executor>).
  template <boost::asio::completion_token_for<new_signature<Executor>> Token = default_token>
  auto async_accept(Token&& token = default_token()) {
    return start_new(this->get_executor(), nullptr, token);
  }
  template <boost::asio::completion_token_for<new_signature<Executor>> Token = default_token>
  auto async_accept(endpoint_type& from, Token&& token = default_token()) {
    return start_new(this->get_executor(), &from, token);
  }
  template <executor_like Other,
            boost::asio::completion_token_for<new_signature<Other>> Token = default_token>
  auto async_accept(const Other& executor, Token&& token = default_token()) {
    return start_new(executor, nullptr, token);
  }
  template <executor_like Other,
            boost::asio::completion_token_for<new_signature<Other>> Token = default_token>
  auto async_accept(const Other& executor, endpoint_type& from, Token&& token = default_token()) {
    return start_new(executor, &from, token);
  }
  template <context_like Context,
            boost::asio::completion_token_for<new_signature<typename Context::executor_type>>
                Token = default_token>
  auto async_accept(Context& context, Token&& token = default_token()) {
    return start_new(context.get_executor(), nullptr, token);
  }
  template <context_like Context,
            boost::asio::completion_token_for<new_signature<typename Context::executor_type>>
                Token = default_token>
  auto async_accept(Context& context, endpoint_type& from, Token&& token = default_token()) {
    return start_new(context.get_executor(), &from, token);
  }

  // ---- readiness -----------------------------------------------------------------

  void wait(boost::asio::socket_base::wait_type what) {
    error_code code;
    detail::throw_if(wait(what, code), "wait");
  }
  error_code wait(boost::asio::socket_base::wait_type what, error_code& code) {
    return this->is_open() ? this->held()->kernel.wait(what, code)
                           : code = detail::bad_descriptor();
  }

 private:
  template <class Other>
  error_code accept_into(basic_socket<Other>& peer, endpoint_type* from, error_code& code) {
    if (!this->is_open()) return code = detail::bad_descriptor();
    if (peer.is_open()) return code = boost::asio::error::already_open;
    auto made = std::make_shared<detail::stream>(peer.get_executor());
    endpoint_type address;
    endpoint_type& peer_address = from != nullptr ? *from : address;
    if (!this->held()->accept(*made, peer_address, code)) peer.adopt(std::move(made));
    return code;
  }

  template <class Signature, class Target, class Token>
  auto start(Target target, endpoint_type* from, Token& token) {
    return boost::asio::async_compose<Token, Signature>(
        detail::accept_op<Target>(this->held(), std::move(target), from), token,
        this->get_executor());
  }
  template <class Other, class Token>
  auto start_new(const Other& executor, endpoint_type* from, Token& token) {
    return start<new_signature<Other>>(detail::new_socket<basic_socket<Other>>(executor), from,
                                       token);
  }
};

using acceptor = basic_acceptor<>;

}  // namespace dibsock
