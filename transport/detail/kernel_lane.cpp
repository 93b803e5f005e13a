// SPDX-License-Identifier: Apache-2.0
#include <transport/detail/kernel_lane.hpp>

#include <smcd/tcp_count.hpp>

#include <linux/socket.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>

namespace dibsock::detail {
namespace {

smcd::result<std::size_t> answer(ssize_t n) noexcept {
  if (n < 0) return dibs::last_error();
  return static_cast<std::size_t>(n);
}

template <class T>
bool option(int fd, int level, int name, T& to) noexcept {
  socklen_t size = sizeof to;
  return ::getsockopt(fd, level, name, &to, &size) == 0;
}

msghdr message_of(smcd::buffers list) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(list.data());
  message.msg_iovlen = list.size();
  return message;
}

}  // namespace

smcd::result<std::size_t> kernel_lane::receive(std::span<std::byte> to) noexcept {
  return answer(::recv(fd_, to.data(), to.size(), MSG_DONTWAIT));
}

smcd::result<std::size_t> kernel_lane::peek(std::span<std::byte> to) noexcept {
  return answer(::recv(fd_, to.data(), to.size(), MSG_DONTWAIT | MSG_PEEK));
}

smcd::result<std::size_t> kernel_lane::receive_parts(smcd::buffers to, bool is_peek) noexcept {
  msghdr message = message_of(to);
  return answer(::recvmsg(fd_, &message, MSG_DONTWAIT | (is_peek ? MSG_PEEK : 0)));
}

smcd::result<std::size_t> kernel_lane::send(std::span<const std::byte> from) noexcept {
  return answer(::send(fd_, from.data(), from.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

smcd::result<std::size_t> kernel_lane::receive(smcd::buffers to, bool may_wait) noexcept {
  const int flags = may_wait ? 0 : MSG_DONTWAIT;
  if (to.size() == 1) return answer(::recv(fd_, to[0].iov_base, to[0].iov_len, flags));
  msghdr message = message_of(to);
  return answer(::recvmsg(fd_, &message, flags));
}

smcd::result<std::size_t> kernel_lane::send(smcd::buffers from, bool may_wait) noexcept {
  const int flags = MSG_NOSIGNAL | (may_wait ? 0 : MSG_DONTWAIT);
  if (from.size() == 1) return answer(::send(fd_, from[0].iov_base, from[0].iov_len, flags));
  const msghdr message = message_of(from);
  return answer(::sendmsg(fd_, &message, flags));
}

std::size_t kernel_lane::unread() noexcept {
  int size = 0;
  return ::ioctl(fd_, SIOCINQ, &size) == 0 && size > 0 ? static_cast<std::size_t>(size) : 0;
}

bool kernel_lane::is_ready(short events) noexcept {
  pollfd ask{fd_, events, 0};
  return ::poll(&ask, 1, 0) > 0;
}

void kernel_lane::hurry() noexcept {
  // Acknowledges at once what came; the peer's Nagle algorithm waits for that.
  const int now = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_QUICKACK, &now, sizeof now);
}

bool kernel_lane::has_hung_up() noexcept { return is_ready(POLLRDHUP); }

bool kernel_lane::counters(std::uint64_t& written, std::uint64_t& read) noexcept {
  const auto info = [this](tcp_info& to) noexcept {
    return option(fd_, IPPROTO_TCP, TCP_INFO, to);
  };
  const auto count = smcd::count_tcp(info, [this]() noexcept { return unread(); });
  if (!count) return false;
  written = count->written;
  read = count->read;
  return true;
}

bool kernel_lane::identify(smcd::socket_identity& to) noexcept {
  return netns_of(fd_, to.netns) && option(fd_, SOL_SOCKET, SO_COOKIE, to.cookie) &&
         local_address_of(fd_, to.local);
}

bool kernel_lane::may_leave_tcp() noexcept {
  // Marks and devices stand for rules of the network, which bytes in memory
  // would not obey.
  std::array<char, 64> device{};
  socklen_t size = device.size();
  const bool has_device =
      ::getsockopt(fd_, SOL_SOCKET, SO_BINDTODEVICE, device.data(), &size) == 0 && size > 0;
  int mark = 0;
  return !has_device && option(fd_, SOL_SOCKET, SO_MARK, mark) && mark == 0;
}

std::uint32_t kernel_lane::wanted_buffer() noexcept {
  int locked = 0;
  int size = 0;
  const bool is_wanted = option(fd_, SOL_SOCKET, SO_BUF_LOCK, locked) &&
                         (locked & SOCK_RCVBUF_LOCK) != 0 &&
                         option(fd_, SOL_SOCKET, SO_RCVBUF, size);
  // The kernel keeps twice of what was asked for.
  return is_wanted ? static_cast<std::uint32_t>(size) / 2 : 0;
}

void kernel_lane::reset_at_close() noexcept {
  const linger at_once{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

bool netns_of(int fd, std::uint64_t& to) noexcept {
  return option(fd, SOL_SOCKET, SO_NETNS_COOKIE, to);
}

bool local_address_of(int fd, dibs::inet_address& to) noexcept {
  sockaddr_storage address{};
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  return ::getsockname(fd, generic, &size) == 0 && dibs::from_sockaddr(generic, size, to);
}

}  // namespace dibsock::detail
