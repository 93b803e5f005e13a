// SPDX-License-Identifier: Apache-2.0
#pragma once
// The part of a socket that concerns the kernel's: its life, its addresses,
// its options. What Asio documents of basic_socket holds here.

#include <transport/detail/stream.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/socket_base.hpp>
#include <boost/system/system_error.hpp>

#include <concepts>
#include <memory>
#include <utility>

namespace dibsock::detail {

[[nodiscard]] inline boost::system::error_code bad_descriptor() noexcept {
  return boost::asio::error::bad_descriptor;
}

inline void throw_if(const boost::system::error_code& code, const char* what) {
  if (code) throw boost::system::system_error(code, what);
}

template <class Executor>
class kernel_face : public boost::asio::socket_base {
 public:
  using executor_type = Executor;
  using protocol_type = boost::asio::ip::tcp;
  using endpoint_type = protocol_type::endpoint;
  using native_handle_type = int;
  using error_code = boost::system::error_code;

  [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

  void open(const protocol_type& protocol = protocol_type::v4()) {
    error_code code;
    open(protocol, code);
    throw_if(code, "open");
  }
  error_code open(const protocol_type& protocol, error_code& code) {
    return open_by(&kernel_socket::open, protocol, code);
  }
  [[nodiscard]] bool is_open() const noexcept { return stream_ != nullptr; }

  // Operations under way end with operation_aborted.
  void close() {
    error_code code;
    close(code);
    throw_if(code, "close");
  }
  error_code close(error_code& code) {
    code = {};
    is_non_blocking_ = false;
    if (const auto closed = std::move(stream_)) code = closed->close();
    return code;
  }
  void cancel() {
    error_code code;
    cancel(code);
    throw_if(code, "cancel");
  }
  error_code cancel(error_code& code) {
    return code = is_open() ? stream_->cancel() : bad_descriptor();
  }

  void shutdown(shutdown_type what) {
    error_code code;
    shutdown(what, code);
    throw_if(code, "shutdown");
  }
  error_code shutdown(shutdown_type what, error_code& code) {
    if (!is_open()) return code = bad_descriptor();
    stream_->lanes().shutdown(what != shutdown_send, what != shutdown_receive);
    return stream_->kernel.shutdown(what, code);
  }

  // Bytes that can be read without waiting.
  [[nodiscard]] std::size_t available() const {
    error_code code;
    const std::size_t size = available(code);
    throw_if(code, "available");
    return size;
  }
  std::size_t available(error_code& code) const {
    code = is_open() ? error_code() : bad_descriptor();
    return is_open() ? stream_->lanes().readable_size() : 0;
  }

  [[nodiscard]] bool non_blocking() const noexcept { return is_non_blocking_; }
  void non_blocking(bool wanted) {
    error_code code;
    non_blocking(wanted, code);
    throw_if(code, "non_blocking");
  }
  error_code non_blocking(bool wanted, error_code& code) {
    code = is_open() ? error_code() : bad_descriptor();
    if (is_open()) is_non_blocking_ = wanted;
    return code;
  }

  [[nodiscard]] endpoint_type local_endpoint() const {
    error_code code;
    endpoint_type found = local_endpoint(code);
    throw_if(code, "local_endpoint");
    return found;
  }
  endpoint_type local_endpoint(error_code& code) const {
    if (is_open()) return stream_->kernel.local_endpoint(code);
    code = bad_descriptor();
    return {};
  }
  [[nodiscard]] endpoint_type remote_endpoint() const {
    error_code code;
    endpoint_type found = remote_endpoint(code);
    throw_if(code, "remote_endpoint");
    return found;
  }
  endpoint_type remote_endpoint(error_code& code) const {
    if (is_open()) return stream_->kernel.remote_endpoint(code);
    code = bad_descriptor();
    return {};
  }

  void bind(const endpoint_type& to) {
    error_code code;
    bind(to, code);
    throw_if(code, "bind");
  }
  error_code bind(const endpoint_type& to, error_code& code) {
    return is_open() ? stream_->kernel.bind(to, code) : code = bad_descriptor();
  }

  template <class Option>
  void set_option(const Option& option) {
    error_code code;
    set_option(option, code);
    throw_if(code, "set_option");
  }
  template <class Option>
  error_code set_option(const Option& option, error_code& code) {
    return is_open() ? stream_->kernel.set_option(option, code) : code = bad_descriptor();
  }
  template <class Option>
  void get_option(Option& option) const {
    error_code code;
    get_option(option, code);
    throw_if(code, "get_option");
  }
  template <class Option>
  error_code get_option(Option& option, error_code& code) const {
    return is_open() ? stream_->kernel.get_option(option, code) : code = bad_descriptor();
  }

  // Of the TCP socket. Bytes moved with it go past the socket: don't.
  [[nodiscard]] native_handle_type native_handle() noexcept {
    return is_open() ? stream_->kernel.native_handle() : -1;
  }

 protected:
  using opener = error_code (kernel_socket::*)(const protocol_type&, error_code&);
  error_code open_by(opener how, const protocol_type& protocol, error_code& code) {
    if (is_open()) return code = boost::asio::error::already_open;
    auto made = std::make_shared<stream>(executor_);
    if (!((made->kernel.*how)(protocol, code))) stream_ = std::move(made);
    return code;
  }

  explicit kernel_face(const executor_type& executor) : executor_(executor) {}
  kernel_face(kernel_face&& other) noexcept
      : executor_(other.executor_),
        stream_(std::move(other.stream_)),
        is_non_blocking_(std::exchange(other.is_non_blocking_, false)) {}
  template <class Other>
  requires std::convertible_to<Other, Executor>
  explicit kernel_face(kernel_face<Other>&& other) noexcept
      : executor_(other.executor_),
        stream_(std::move(other.stream_)),
        is_non_blocking_(std::exchange(other.is_non_blocking_, false)) {}
  kernel_face& operator=(kernel_face&& other) noexcept {
    if (this == &other) return *this;
    drop();
    executor_ = other.executor_;
    stream_ = std::move(other.stream_);
    is_non_blocking_ = std::exchange(other.is_non_blocking_, false);
    return *this;
  }
  ~kernel_face() { drop(); }

  // A connected stream, in the place of one that is not open.
  void adopt(std::shared_ptr<stream> connected) noexcept { stream_ = std::move(connected); }
  [[nodiscard]] const std::shared_ptr<stream>& held() const noexcept { return stream_; }

 private:
  template <class Other>
  friend class kernel_face;

  void drop() noexcept {
    if (const auto closed = std::move(stream_)) closed->close();
  }

  executor_type executor_;
  std::shared_ptr<stream> stream_;  // null: not open
  bool is_non_blocking_ = false;
};

}  // namespace dibsock::detail
