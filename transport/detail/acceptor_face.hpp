// SPDX-License-Identifier: Apache-2.0
#pragma once
// The part of an acceptor that concerns the kernel's: its life, its address,
// its options. What Asio documents of basic_socket_acceptor holds here.

#include <transport/detail/accept_op.hpp>
#include <transport/detail/kernel_face.hpp>

#include <memory>
#include <utility>

namespace dibsock::detail {

template <class Executor>
class acceptor_face : public boost::asio::socket_base {
 public:
  using executor_type = Executor;
  using protocol_type = boost::asio::ip::tcp;
  using endpoint_type = protocol_type::endpoint;
  using native_handle_type = int;
  using error_code = boost::system::error_code;

  [[nodiscard]] executor_type get_executor() const noexcept { return executor_; }

  void open(const protocol_type& protocol = protocol_type::v4()) {
    error_code code;
    throw_if(open(protocol, code), "open");
  }
  error_code open(const protocol_type& protocol, error_code& code) {
    if (is_open()) return code = boost::asio::error::already_open;
    auto made = std::make_shared<acceptance>(executor_);
    if (!made->kernel.open(protocol, code)) held_ = std::move(made);
    return code;
  }
  [[nodiscard]] bool is_open() const noexcept { return held_ != nullptr; }

  void bind(const endpoint_type& at) {
    error_code code;
    throw_if(bind(at, code), "bind");
  }
  error_code bind(const endpoint_type& at, error_code& code) {
    return is_open() ? held_->kernel.bind(at, code) : code = bad_descriptor();
  }

  // From here on clients know that they may speak SMC-D.
  void listen(int backlog = max_listen_connections) {
    error_code code;
    throw_if(listen(backlog, code), "listen");
  }
  error_code listen(int backlog, error_code& code) {
    if (!is_open()) return code = bad_descriptor();
    if (!held_->kernel.listen(backlog, code)) held_->publish();
    return code;
  }

  // Operations under way end with operation_aborted.
  void close() {
    error_code code;
    throw_if(close(code), "close");
  }
  error_code close(error_code& code) {
    code = {};
    if (const auto closed = std::move(held_)) code = closed->close();
    return code;
  }
  void cancel() {
    error_code code;
    throw_if(cancel(code), "cancel");
  }
  error_code cancel(error_code& code) {
    return is_open() ? held_->kernel.cancel(code) : code = bad_descriptor();
  }

  [[nodiscard]] endpoint_type local_endpoint() const {
    error_code code;
    endpoint_type found = local_endpoint(code);
    throw_if(code, "local_endpoint");
    return found;
  }
  endpoint_type local_endpoint(error_code& code) const {
    if (is_open()) return held_->kernel.local_endpoint(code);
    code = bad_descriptor();
    return {};
  }

  template <class Option>
  void set_option(const Option& option) {
    error_code code;
    throw_if(set_option(option, code), "set_option");
  }
  template <class Option>
  error_code set_option(const Option& option, error_code& code) {
    return is_open() ? held_->kernel.set_option(option, code) : code = bad_descriptor();
  }
  template <class Option>
  void get_option(Option& option) const {
    error_code code;
    throw_if(get_option(option, code), "get_option");
  }
  template <class Option>
  error_code get_option(Option& option, error_code& code) const {
    return is_open() ? held_->kernel.get_option(option, code) : code = bad_descriptor();
  }

  void non_blocking(bool wanted) {
    error_code code;
    throw_if(non_blocking(wanted, code), "non_blocking");
  }
  error_code non_blocking(bool wanted, error_code& code) {
    return is_open() ? held_->kernel.non_blocking(wanted, code) : code = bad_descriptor();
  }
  [[nodiscard]] bool non_blocking() const noexcept {
    return is_open() && held_->kernel.non_blocking();
  }
  [[nodiscard]] native_handle_type native_handle() noexcept {
    return is_open() ? held_->kernel.native_handle() : -1;
  }

 protected:
  explicit acceptor_face(const executor_type& executor) : executor_(executor) {}
  acceptor_face(acceptor_face&& other) noexcept
      : executor_(other.executor_), held_(std::move(other.held_)) {}
  acceptor_face& operator=(acceptor_face&& other) noexcept {
    if (this == &other) return *this;
    drop();
    executor_ = other.executor_;
    held_ = std::move(other.held_);
    return *this;
  }
  ~acceptor_face() { drop(); }

  [[nodiscard]] const std::shared_ptr<acceptance>& held() const noexcept { return held_; }

 private:
  void drop() noexcept {
    if (const auto closed = std::move(held_)) closed->close();
  }

  executor_type executor_;
  std::shared_ptr<acceptance> held_;  // null: not open
};

}  // namespace dibsock::detail
