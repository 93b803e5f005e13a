// SPDX-License-Identifier: Apache-2.0
#pragma once
// dibsock::socket: a stream socket for Boost.Asio that carries bytes through
// shared memory (SMC-D) where the peer can, and over TCP where it cannot.
//
// Use it as asio::ip::tcp::socket: it reads and writes, synchronously or not,
// and goes under asio::ssl::stream and Beast. Addresses and options are those
// of the kernel's TCP socket, which is there all the time: its FIN and RST end
// the connection, and a connection that never leaves TCP costs what it always
// did.

#include <transport/detail/connect_op.hpp>
#include <transport/detail/kernel_face.hpp>
#include <transport/detail/stream_op.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/execution_context.hpp>

#include <concepts>
#include <memory>
#include <utility>

namespace dibsock {

enum class mode { tcp, smcd };

template <class Executor>
class basic_acceptor;

namespace detail {
template <class Socket>
class into_socket;
template <class Socket>
class new_socket;
}  // namespace detail

// Distinct objects: safe. Shared objects: unsafe, but a read and a write may be
// outstanding at the same time. Asynchronous operations complete as if by
// post(), never inside the function that starts them, and can be cancelled
// (terminal, partial, total). Buffers belong to the caller and must stay valid
// until the handler is called.
//
// After fork() the child may close the sockets that it inherited, and use none
// of them.
template <class Executor = boost::asio::any_io_executor>
class basic_socket : public detail::kernel_face<Executor> {
  using face = detail::kernel_face<Executor>;
  template <class Token>
  static constexpr bool is_io_token =
      boost::asio::completion_token_for<Token, void(boost::system::error_code, std::size_t)>;
  using default_token = boost::asio::default_completion_token_t<Executor>;

 public:
  using typename face::endpoint_type;
  using typename face::error_code;
  using typename face::executor_type;
  using typename face::protocol_type;
  using lowest_layer_type = basic_socket;
  template <class Other>
  struct rebind_executor {
    using other = basic_socket<Other>;
  };

  // From an executor, or a context; with a protocol the socket is opened.
  explicit basic_socket(const executor_type& executor) : face(executor) {}
  basic_socket(const executor_type& executor, const protocol_type& protocol) : face(executor) {
    this->open(protocol);
  }
  template <class Context>
  requires std::convertible_to<Context&, boost::asio::execution_context&>
  explicit basic_socket(Context& context) : face(context.get_executor()) {}
  template <class Context>
  requires std::convertible_to<Context&, boost::asio::execution_context&> basic_socket(
      Context& context, const protocol_type& protocol)
      : basic_socket(context.get_executor(), protocol) {}

  // What was moved from is as if just constructed. Operations under way go on.
  basic_socket(basic_socket&&) noexcept = default;
  basic_socket& operator=(basic_socket&&) noexcept = default;
  template <class Other>
  requires(std::convertible_to<Other, Executor> && !std::same_as<Other, Executor>)
      basic_socket(basic_socket<Other>&& other)
  noexcept : face(std::move(other)) {}

  [[nodiscard]] lowest_layer_type& lowest_layer() noexcept { return *this; }
  [[nodiscard]] const lowest_layer_type& lowest_layer() const noexcept { return *this; }

  // ---- how it is carried -----------------------------------------------------

  // smcd once the handshake is done, which goes on beside the first bytes;
  // until then, and for good where the peer cannot, tcp.
  [[nodiscard]] dibsock::mode mode() const noexcept {
    return this->held() != nullptr && this->held()->lanes().is_smcd() ? dibsock::mode::smcd
                                                                      : dibsock::mode::tcp;
  }
  // Why it is tcp; none while that is not decided, and for smcd.
  [[nodiscard]] smcd::decline_code fallback_reason() const noexcept {
    return this->held() == nullptr ? smcd::decline_code::none : this->held()->lanes().reason();
  }

  // ---- connect ---------------------------------------------------------------
  // Opens the socket if need be.

  void connect(const endpoint_type& to) {
    error_code code;
    connect(to, code);
    detail::throw_if(code, "connect");
  }
  error_code connect(const endpoint_type& to, error_code& code) {
    if (!this->is_open() && this->open(to.protocol(), code)) return code;
    detail::stream& made = *this->held();
    const auto stack = detail::this_stack();
    const dibs::inet_address remote = detail::key_of(to).reached();
    const bool may_meet = detail::may_meet(stack.get(), made.kernel.native_handle(), remote);
    if (!made.kernel.connect(to, code)) {
      code = made.begin(stack, smcd::handshake_role::client, remote, may_meet);
    }
    return code;
  }

  // Handler: void(error_code).
  template <boost::asio::completion_token_for<void(error_code)> Token = default_token>
  auto async_connect(const endpoint_type& to, Token&& token = default_token()) {
    error_code failure;
    if (!this->is_open()) {
      this->open_by(&detail::kernel_socket::open_asio, to.protocol(), failure);
    }
    return boost::asio::async_initiate<Token, void(error_code)>(
        detail::initiate_connect<executor_type>(this->get_executor()), token,
        detail::connect_op(this->held(), to), failure);
  }

  // ---- read and write ----------------------------------------------------------
  // Moves at least one byte, or fails; asio::error::eof at the end of the
  // stream. The synchronous ones wait, unless non_blocking().

  template <class Buffers>
  std::size_t read_some(const Buffers& to) {
    error_code code;
    const std::size_t size = read_some(to, code);
    detail::throw_if(code, "read_some");
    return size;
  }
  template <class Buffers>
  std::size_t read_some(const Buffers& to, error_code& code) {
    const detail::buffer_list list(to);
    return move_bytes(list.is_empty(), code, [&](detail::link& from, bool may_wait) {
      return detail::name_end(may_wait ? from.read_blocking(list.get()) : from.read(list.get()));
    });
  }
  template <class Buffers>
  std::size_t write_some(const Buffers& from) {
    error_code code;
    const std::size_t size = write_some(from, code);
    detail::throw_if(code, "write_some");
    return size;
  }
  template <class Buffers>
  std::size_t write_some(const Buffers& from, error_code& code) {
    const detail::buffer_list list(from);
    return move_bytes(list.is_empty(), code, [&](detail::link& to, bool may_wait) {
      return may_wait ? to.write_blocking(list.get()) : to.write(list.get());
    });
  }

  // Handlers: void(error_code, std::size_t).
  template <class Buffers, class Token = default_token>
  requires is_io_token<Token>
  auto async_read_some(const Buffers& to, Token&& token = default_token()) {
    return boost::asio::async_initiate<Token, void(error_code, std::size_t)>(
        initiation(*this), token, detail::read_attempt<Buffers>{to});
  }
  template <class Buffers, class Token = default_token>
  requires is_io_token<Token>
  auto async_write_some(const Buffers& from, Token&& token = default_token()) {
    return boost::asio::async_initiate<Token, void(error_code, std::size_t)>(
        initiation(*this), token, detail::write_attempt<Buffers>{from});
  }

  // ---- readiness -----------------------------------------------------------------
  // Handler: void(error_code). wait_error is about the kernel socket alone.

  template <boost::asio::completion_token_for<void(error_code)> Token = default_token>
  auto async_wait(boost::asio::socket_base::wait_type what, Token&& token = default_token()) {
    return boost::asio::async_initiate<Token, void(error_code)>(initiation(*this), token, what);
  }

 private:
  template <class>
  friend class basic_acceptor;
  template <class>
  friend class detail::into_socket;
  template <class>
  friend class detail::new_socket;

  class initiation {
   public:
    using executor_type = Executor;
    explicit initiation(basic_socket& self) noexcept : self_(&self) {}
    [[nodiscard]] executor_type get_executor() const noexcept { return self_->get_executor(); }

    template <class Handler, class Attempt>
    void operator()(Handler&& handler, Attempt&& attempt) const {
      detail::start_operation(self_->held(), std::forward<Attempt>(attempt),
                              std::forward<Handler>(handler), get_executor());
    }
    template <class Handler>
    void operator()(Handler&& handler, boost::asio::socket_base::wait_type what) const {
      using detail::side;
      if (what == boost::asio::socket_base::wait_error && self_->is_open()) {
        static_cast<void>(self_->held()->kernel.hand_over());
        self_->held()->kernel.asio().async_wait(what, std::forward<Handler>(handler));
      } else if (what == boost::asio::socket_base::wait_write) {
        (*this)(std::forward<Handler>(handler), detail::wait_attempt<side::writing>());
      } else {
        (*this)(std::forward<Handler>(handler), detail::wait_attempt<side::reading>());
      }
    }

   private:
    basic_socket* self_;
  };

  template <class Move>
  std::size_t move_bytes(bool is_idle, error_code& code, Move move) {
    code = this->is_open() ? error_code() : detail::bad_descriptor();
    if (is_idle || code) return 0;
    const auto got =
        this->held()->block([&](detail::link& over) { return move(over, !this->non_blocking()); });
    if (!got) code = got.error();
    return got ? *got : 0;
  }
};

using socket = basic_socket<>;

}  // namespace dibsock
