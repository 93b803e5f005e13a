// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/tcp_socket.hpp>

#include <smcd/tcp_count.hpp>
#include <socket_shim/memory.hpp>
#include <socket_shim/real.hpp>

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

namespace shim {
namespace {

smcd::result<std::size_t> answer(ssize_t n) noexcept {
  if (n < 0) return dibs::last_error();
  return static_cast<std::size_t>(n);
}

template <class T>
bool option(int fd, int level, int name, T& to) noexcept {
  socklen_t size = sizeof to;
  return real.getsockopt(fd, level, name, static_cast<void*>(&to), &size) == 0;
}

}  // namespace

smcd::result<std::size_t> tcp_socket::receive(std::span<std::byte> to) noexcept {
  const dibs::cancel_shield not_cancelled;
  return answer(real.recv(fd_, static_cast<void*>(to.data()), to.size(), MSG_DONTWAIT));
}

smcd::result<std::size_t> tcp_socket::peek(std::span<std::byte> to) noexcept {
  const dibs::cancel_shield not_cancelled;
  return answer(real.recv(fd_, static_cast<void*>(to.data()), to.size(), MSG_DONTWAIT | MSG_PEEK));
}

smcd::result<std::size_t> tcp_socket::send(std::span<const std::byte> from) noexcept {
  const dibs::cancel_shield not_cancelled;
  return answer(real.send(fd_, static_cast<const void*>(from.data()), from.size(),
                          MSG_DONTWAIT | MSG_NOSIGNAL));
}

smcd::result<std::size_t> tcp_socket::receive_parts(smcd::buffers to, bool is_peek) noexcept {
  const dibs::cancel_shield not_cancelled;
  // recvmsg refuses sizes that recv cuts down.
  if (to.size() == 1) {
    const std::span part{static_cast<std::byte*>(to[0].iov_base), to[0].iov_len};
    return is_peek ? peek(part) : receive(part);
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(to.data());
  message.msg_iovlen = to.size();
  return answer(real.recvmsg(fd_, &message, MSG_DONTWAIT | (is_peek ? MSG_PEEK : 0)));
}

smcd::result<std::size_t> tcp_socket::send_parts(smcd::buffers from) noexcept {
  const dibs::cancel_shield not_cancelled;
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(from.data());
  message.msg_iovlen = from.size();
  return answer(real.sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

std::size_t tcp_socket::unread() noexcept {
  int size = 0;
  return real.ioctl(fd_, static_cast<unsigned long>(SIOCINQ), &size) == 0 && size > 0
             ? static_cast<std::size_t>(size)
             : 0;
}

void tcp_socket::hurry() noexcept {
  // Acknowledges at once what came; the peer's Nagle algorithm waits for that.
  const int now = 1;
  static_cast<void>(real.setsockopt(fd_, IPPROTO_TCP, TCP_QUICKACK, static_cast<const void*>(&now),
                                    socklen_t{sizeof now}));
}

bool tcp_socket::has_hung_up() noexcept {
  const dibs::cancel_shield not_cancelled;
  pollfd ask{fd_, POLLRDHUP, 0};
  return real.poll(&ask, nfds_t{1}, 0) > 0;
}

bool tcp_socket::counters(std::uint64_t& written, std::uint64_t& read) noexcept {
  const auto info = [this](tcp_info& to) noexcept {
    return option(fd_, IPPROTO_TCP, TCP_INFO, to);
  };
  const auto count = smcd::count_tcp(info, [this]() noexcept { return unread(); });
  if (!count) return false;
  written = count->written;
  read = count->read;
  return true;
}

bool tcp_socket::identify(smcd::socket_identity& to) noexcept {
  return is_tcp(fd_) && option(fd_, SOL_SOCKET, SO_NETNS_COOKIE, to.netns) &&
         option(fd_, SOL_SOCKET, SO_COOKIE, to.cookie) && local_address(fd_, to.local);
}

// Sockets whose owner set rules for the network, or wants to hear from it:
// bytes that leave TCP would leave those rules too.
bool tcp_socket::may_leave_tcp() noexcept {
  char device[64];
  socklen_t size = sizeof device;
  if (real.getsockopt(fd_, SOL_SOCKET, SO_BINDTODEVICE, static_cast<void*>(device), &size) == 0 &&
      size > 0)
    return false;
  int value = 0;
  for (const int name : {SO_MARK, SO_ZEROCOPY, SO_TIMESTAMPING, SO_TIMESTAMP, SO_TIMESTAMPNS}) {
    if (option(fd_, SOL_SOCKET, name, value) && value != 0) return false;
  }
  if (option(fd_, IPPROTO_TCP, TCP_INQ, value) && value != 0) return false;
  if (option(fd_, SOL_SOCKET, SO_PEEK_OFF, value) && value >= 0) return false;
  std::uint64_t rate = 0;
  if (option(fd_, SOL_SOCKET, SO_MAX_PACING_RATE, rate) && rate + 1 != 0 &&
      rate != ~std::uint32_t{0}) {
    return false;
  }
  // How many instructions a filter has; an eBPF one is an error.
  socklen_t filter = 0;
  if (real.getsockopt(fd_, SOL_SOCKET, SO_GET_FILTER, static_cast<void*>(nullptr), &filter) != 0 ||
      filter > 0) {
    return false;
  }
  if ((real.fcntl(fd_, F_GETFL) & O_ASYNC) != 0) return false;  // wants SIGIO
  return !option(fd_, SOL_SOCKET, SO_RCVLOWAT, value) || value <= 1;
}

std::uint32_t tcp_socket::wanted_buffer() noexcept {
  constexpr int buf_lock = 72;     // SO_BUF_LOCK, Linux 5.14
  constexpr int receive_lock = 2;  // SOCK_RCVBUF_LOCK
  int value = 0;
  if (!option(fd_, SOL_SOCKET, buf_lock, value) || (value & receive_lock) == 0) return 0;
  // The kernel tells twice what was asked for.
  return option(fd_, SOL_SOCKET, SO_RCVBUF, value) && value > 0
             ? static_cast<std::uint32_t>(value) / 2
             : 0;
}

bool tcp_socket::may_read(smcd::buffers from, std::size_t n) noexcept {
  return is_readable(from, n);
}

bool tcp_socket::may_write(smcd::buffers to, std::size_t n) noexcept { return is_writable(to, n); }

bool is_tcp(int fd) noexcept {
  int protocol = 0;
  return option(fd, SOL_SOCKET, SO_PROTOCOL, protocol) && protocol == IPPROTO_TCP;
}

bool is_listening(int fd) noexcept {
  int listens = 0;
  return option(fd, SOL_SOCKET, SO_ACCEPTCONN, listens) && listens != 0;
}

bool local_address(int fd, dibs::inet_address& to) noexcept {
  sockaddr_storage address{};
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  return ::getsockname(fd, generic, &size) == 0 && dibs::from_sockaddr(generic, size, to);
}

std::uint64_t netns_of(int fd) noexcept {
  std::uint64_t cookie = 0;
  return option(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie) ? cookie : 0;
}

bool cookie_of(int fd, std::uint64_t& to) noexcept { return option(fd, SOL_SOCKET, SO_COOKIE, to); }

}  // namespace shim
