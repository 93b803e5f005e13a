// SPDX-License-Identifier: Apache-2.0
#pragma once
// The kernel's socket of a stream. An open socket of Asio is registered with
// the event loop, which costs system calls when it begins and ends, and in the
// kernel a callback whenever bytes come. Programs whose threads wait need none
// of it: so the descriptor is ours until the first asynchronous operation, and
// Asio's from then on. What Asio documents of sockets holds for either.
//
// hand_over() and close() may come from any thread.

#include <devices/error.hpp>
#include <transport/detail/process.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/socket_base.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>
#include <utility>

namespace dibsock::detail {

class kernel_socket {
 public:
  using protocol_type = boost::asio::ip::tcp;
  using endpoint_type = protocol_type::endpoint;
  using error_code = boost::system::error_code;
  using asio_socket = boost::asio::basic_stream_socket<protocol_type, boost::asio::any_io_executor>;

  explicit kernel_socket(const boost::asio::any_io_executor& executor) : asio_(executor) {}
  kernel_socket(const kernel_socket&) = delete;
  kernel_socket& operator=(const kernel_socket&) = delete;
  ~kernel_socket() {
    error_code ignored;
    close(ignored);
  }

  error_code open(const protocol_type& protocol, error_code& code) {
    protocol_ = protocol;
    return code = judge(fd_ = ::socket(protocol.family(), protocol.type(), protocol.protocol()));
  }
  // Takes one connection of a listener; may wait, as that socket's mode says.
  error_code accept_from(int listener, endpoint_type& peer, error_code& code) {
    auto size = static_cast<socklen_t>(peer.capacity());
    code = judge(fd_ = ::accept(listener, peer.data(), &size));
    if (!code) peer.resize(size);
    protocol_ = peer.protocol();
    return code;
  }
  // Opened by Asio, for what begins with an asynchronous operation.
  error_code open_asio(const protocol_type& protocol, error_code& code) {
    if (!asio_.open(protocol, code)) take_over(protocol);
    return code;
  }
  // asio() is open: Asio has accepted a connection into it, or opened it.
  void take_over(const protocol_type& protocol) noexcept {
    protocol_ = protocol;
    fd_ = asio_.native_handle();
  }

  // From here on asio() is this socket, unless it is an error.
  [[nodiscard]] error_code hand_over() {
    const std::lock_guard lock(mutex_);
    error_code code;
    if (fd_ < 0) return boost::asio::error::bad_descriptor;
    if (!asio_.is_open()) asio_.assign(protocol_, fd_, code);
    return code;
  }
  [[nodiscard]] asio_socket& asio() noexcept { return asio_; }
  [[nodiscard]] auto get_executor() noexcept { return asio_.get_executor(); }
  [[nodiscard]] int native_handle() const noexcept { return fd_; }

  error_code close(error_code& code) {
    const std::lock_guard lock(mutex_);
    const int fd = std::exchange(fd_, -1);
    code = {};
    if (!asio_.is_open()) return fd < 0 ? code : code = judge(::close(fd));
    if (owner_ != this_process()) spare_parent(fd);
    return asio_.close(code);
  }
  error_code cancel(error_code& code) {
    const std::lock_guard lock(mutex_);
    code = {};
    return asio_.is_open() ? asio_.cancel(code) : code;
  }

  error_code connect(const endpoint_type& to, error_code& code) {
    if ((code = connect_once(to)) != boost::asio::error::in_progress) return code;
    // It does not wait, or not for so long.
    pollfd done{fd_, POLLOUT, 0};
    if ((code = judge(::poll(&done, 1, -1)))) return code;
    return code = pending_error();
  }
  // Without waiting, to a socket of this machine: in_progress if it takes longer
  // than usual. The kernel answers itself within the call, yet says so only to
  // the next one. After hand_over().
  [[nodiscard]] error_code connect_nearby(const endpoint_type& to) {
    error_code code;
    if (!asio_.native_non_blocking() && asio_.native_non_blocking(true, code)) return code;
    if ((code = connect_once(to)) == boost::asio::error::in_progress) code = connect_once(to);
    return code == boost::asio::error::already_started ? boost::asio::error::in_progress : code;
  }
  // What became of a connect() that took longer.
  [[nodiscard]] error_code pending_error() const noexcept {
    int failure = 0;
    socklen_t size = sizeof failure;
    const error_code code = judge(::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &failure, &size));
    return code ? code : dibs::system_error(failure);
  }
  error_code bind(const endpoint_type& to, error_code& code) {
    return code = judge(::bind(fd_, to.data(), static_cast<socklen_t>(to.size())));
  }
  error_code shutdown(boost::asio::socket_base::shutdown_type what, error_code& code) {
    return code = judge(::shutdown(fd_, what));
  }
  endpoint_type local_endpoint(error_code& code) const { return ask(::getsockname, code); }
  endpoint_type remote_endpoint(error_code& code) const { return ask(::getpeername, code); }

  // Asio knows options that the kernel does not, and others better.
  template <class Option>
  error_code set_option(const Option& option, error_code& code) {
    code =
        judge(::setsockopt(fd_, option.level(protocol_), option.name(protocol_),
                           option.data(protocol_), static_cast<socklen_t>(option.size(protocol_))));
    return code && !(code = hand_over()) ? asio_.set_option(option, code) : code;
  }
  template <class Option>
  error_code get_option(Option& option, error_code& code) {
    return (code = hand_over()) ? code : asio_.get_option(option, code);
  }

 private:
  [[nodiscard]] static error_code judge(int answer) noexcept {
    return answer < 0 ? dibs::last_error() : error_code();
  }

  [[nodiscard]] error_code connect_once(const endpoint_type& to) const noexcept {
    const error_code code = judge(::connect(fd_, to.data(), static_cast<socklen_t>(to.size())));
    return code == boost::asio::error::try_again ? boost::asio::error::no_buffer_space : code;
  }

  template <class Ask>
  endpoint_type ask(Ask get_name, error_code& code) const {
    endpoint_type found;
    auto size = static_cast<socklen_t>(found.capacity());
    code = judge(get_name(fd_, found.data(), &size));
    if (code) return {};
    found.resize(size);
    return found;
  }

  // In a forked child. Asio takes what it closes off the event loop, which is
  // the parent's as well: let it close something else.
  static void spare_parent(int fd) noexcept {
    const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing < 0) return;
    ::dup2(nothing, fd);
    ::close(nothing);
  }

  std::mutex mutex_;  // of who owns the descriptor
  int fd_ = -1;
  protocol_type protocol_ = protocol_type::v4();
  asio_socket asio_;
  const process_number owner_ = this_process();
};

}  // namespace dibsock::detail
