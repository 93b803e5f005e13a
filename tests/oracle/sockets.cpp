// SPDX-License-Identifier: Apache-2.0
// Calls that make, share, set and end sockets.
#include "player.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace oracle {
namespace {

// Without Nagle's delays, and without a congestion control that takes a slow
// application for a slow network.
void make_plain(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

listener_book& listener_at(call& c, int number) {
  return c.in.listeners[static_cast<std::size_t>(number) % listener_count];
}

sockaddr_in address_of(const listener_book& of) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = of.address;
  at.sin_port = of.port;
  return at;
}

void call_listen(call& c) {
  const int number = c.arg(1) % static_cast<int>(listener_count);
  listener_book& book = listener_at(c, number);
  if (book.port != 0) return c.skip();
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  make_plain(fd);
  // Many addresses, so that connections that linger in TIME_WAIT leave room.
  book.address = htonl(INADDR_LOOPBACK + 256 * (c.in.address_salt % 4096) +
                       static_cast<std::uint32_t>(number));
  sockaddr_in at = address_of(book);
  socklen_t size = sizeof at;
  int made = ::bind(fd, reinterpret_cast<sockaddr*>(&at), size);
  c.make([&] { return ::listen(fd, 32); });
  made |= ::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
  book.port = at.sin_port;
  c.note(made);
  c.note(fd);
  c.book.set_slot(c.arg(0), fd);
  c.book.opened(fd, fd_kind::listener, number);
}

void call_connect(call& c) {
  const int number = c.arg(1) % static_cast<int>(listener_count);
  const listener_book& book = listener_at(c, number);
  if (book.port == 0 || c.in.end_count + 2 > max_ends) return c.skip();
  const int flags = c.arg(2) != 0 ? SOCK_NONBLOCK : 0;
  const int fd = ::socket(AF_INET, SOCK_STREAM | flags, 0);
  make_plain(fd);
  const sockaddr_in at = address_of(book);
  c.make([&] { return ::connect(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at); });
  c.note(fd);
  c.book.set_slot(c.arg(0), fd);
  const bool is_there = book.holders > 0 && (c.log.value == 0 || c.log.error == EINPROGRESS);
  const int end = is_there ? c.book.connected(number) : -1;
  c.book.opened(fd, end < 0 ? fd_kind::other : fd_kind::stream, end);
  if (end >= 0) c.in.ends[static_cast<std::size_t>(end)].is_nonblocking = flags != 0;
}

void call_accept(call& c) {
  const int from = c.book.fd_of(c.arg(1));
  const int number = c.book.listener_of(from);
  if (number >= 0 && c.in.listeners[static_cast<std::size_t>(number)].accepted >=
                         c.in.listeners[static_cast<std::size_t>(number)].connected) {
    return c.skip();
  }
  sockaddr_in at{};
  socklen_t size = sizeof at;
  const auto fd = static_cast<int>(c.make([&] {
    return ::accept4(from, reinterpret_cast<sockaddr*>(&at), &size,
                     c.arg(2) != 0 ? SOCK_NONBLOCK : 0);
  }));
  if (fd < 0) return;
  make_plain(fd);
  c.book.set_slot(c.arg(0), fd);
  const int end = c.book.accepted(number);
  c.book.opened(fd, fd_kind::stream, end);
  if (end >= 0) c.in.ends[static_cast<std::size_t>(end)].is_nonblocking = c.arg(2) != 0;
}

bool may_close(const call& c, int fd) {
  return c.book.end_of(fd) < 0 || c.book.may_close(c.book.end_of(fd));
}

// The kernel goes on telling of a closed descriptor as long as another one of
// the same socket is open. That is left out: the library does not, on purpose.
void leave_sets(const call& c, int fd) {
  const int end = c.book.end_of(fd);
  if (end < 0 || c.in.ends[static_cast<std::size_t>(end)].holders < 2) return;
  for (int set = 3; set < static_cast<int>(max_fds); ++set) {
    if (c.book.kind_of(set) == fd_kind::epoll) ::epoll_ctl(set, EPOLL_CTL_DEL, fd, nullptr);
  }
}

void call_close(call& c) {
  const int fd = c.fd();
  if (!may_close(c, fd)) return c.skip();
  leave_sets(c, fd);
  if (c.arg(1) != 0 && fd >= 3) {
    c.make([&] { return ::close_range(static_cast<unsigned>(fd), static_cast<unsigned>(fd), 0); });
  } else {
    c.make([&] { return ::close(fd); });
  }
  if (c.log.value == 0) c.book.closed(fd);
}

// Who shut both directions answers bytes with a reset. Whether those that found
// no window count as such is not determined either; nor, where both ends ended,
// what became of a FIN behind them.
bool would_lose_by_shutdown(const call& c, int end) {
  if (end < 0) return false;
  const end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  const end_book& peer = c.in.ends[peer_of(static_cast<std::size_t>(end))];
  const bool shuts_read = of.shut_read || c.arg(1) != SHUT_WR;
  const bool shuts_write = of.shut_write || c.arg(1) != SHUT_RD;
  const bool has_unread = c.book.unread(end) > determined_bytes;
  const bool is_ahead =
      c.book.unread(static_cast<int>(peer_of(static_cast<std::size_t>(end)))) > determined_bytes;
  return shuts_write &&
         ((has_unread && shuts_read) || ((has_unread || is_ahead) && peer.shut_write));
}

void call_shutdown(call& c) {
  const int end = c.book.end_of(c.fd());
  if (would_lose_by_shutdown(c, end)) return c.skip();
  c.make([&] { return ::shutdown(c.fd(), c.arg(1)); });
  if (end < 0 || c.log.value != 0) return;
  end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  if (c.arg(1) == SHUT_RD || c.arg(1) == SHUT_RDWR) of.shut_read = true;
  if (c.arg(1) == SHUT_WR || c.arg(1) == SHUT_RDWR) of.shut_write = true;
}

void call_dup(call& c) {
  const int from = c.fd();
  const int onto = c.book.fd_of(c.arg(1));
  const bool replaces = c.of.what == op::dup2 || c.of.what == op::dup3;
  if (replaces && onto < 3) return c.skip();
  if (replaces && !may_close(c, onto)) return c.skip();
  if (replaces && onto != from) leave_sets(c, onto);
  const auto made = static_cast<int>(c.make([&] {
    switch (c.of.what) {
      case op::dup: return ::dup(from);
      case op::dup2: return ::dup2(from, onto);
      case op::dup3: return ::dup3(from, onto, c.arg(2));
      default: return ::fcntl(from, F_DUPFD_CLOEXEC, c.arg(2));
    }
  }));
  if (made < 0 || made == from) return;
  const fd_kind kind = c.book.kind_of(from);
  const int thing =
      kind == fd_kind::none ? -1 : c.book.mine().things[static_cast<std::size_t>(from)];
  c.book.opened(made, kind, thing);
  c.book.set_slot(c.arg(1), made);
}

void call_nonblock(call& c) {
  const int fd = c.fd();
  const int flags = ::fcntl(fd, F_GETFL);
  int on = c.arg(1) != 0 ? 1 : 0;
  if (c.arg(2) != 0) {
    c.make([&] { return ::ioctl(fd, FIONBIO, &on); });
  } else {
    c.make(
        [&] { return ::fcntl(fd, F_SETFL, on != 0 ? flags | O_NONBLOCK : flags & ~O_NONBLOCK); });
  }
  const int end = c.book.end_of(fd);
  if (end >= 0 && c.log.value == 0)
    c.in.ends[static_cast<std::size_t>(end)].is_nonblocking = on != 0;
}

// Value is milliseconds for timeouts; for SO_LINGER it is l_onoff, more l_linger.
void call_setopt(call& c) {
  const int fd = c.fd();
  const int level = c.arg(1);
  const int name = c.arg(2);
  const int value = c.arg(3);
  const timeval time{value / 1000, value % 1000 * 1000};
  const linger how{value, c.arg(4)};
  const void* from = &value;
  socklen_t size = sizeof value;
  const bool is_timeout = level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO);
  const bool is_linger = level == SOL_SOCKET && name == SO_LINGER;
  if (is_timeout) from = &time, size = sizeof time;
  if (is_linger) from = &how, size = sizeof how;
  const bool is_low_mark = level == SOL_SOCKET && name == SO_RCVLOWAT;
  if (is_low_mark && c.in.has_sets) return c.skip();
  c.in.has_low_marks = c.in.has_low_marks || is_low_mark;
  c.make([&] { return ::setsockopt(fd, level, name, from, size); });
  const int end = c.book.end_of(fd);
  if (end < 0 || c.log.value != 0) return;
  end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  if (is_timeout && name == SO_RCVTIMEO) of.has_timeout = value != 0;
  if (is_linger) of.resets = value != 0 && c.arg(4) == 0;
  if (is_low_mark) of.low_mark = value > 0 ? value : 1;
}

void call_getopt(call& c) {
  std::array<int, 4> value{};
  socklen_t size = sizeof value;
  c.make([&] { return ::getsockopt(c.fd(), c.arg(1), c.arg(2), value.data(), &size); });
  c.note(size);
  c.note(value[0]);
}

void call_fionread(call& c) {
  const int end = c.book.end_of(c.fd());
  if (end >= 0 && c.book.unread(end) > determined_bytes) return c.skip();
  int bytes = -1;
  c.make([&] { return ::ioctl(c.fd(), FIONREAD, &bytes); });
  c.note(bytes);
}

}  // namespace

void take_socket_step(call& c) {
  switch (c.of.what) {
    case op::listen: return call_listen(c);
    case op::connect: return call_connect(c);
    case op::accept: return call_accept(c);
    case op::close: return call_close(c);
    case op::shutdown: return call_shutdown(c);
    case op::dup:
    case op::dup2:
    case op::dup3:
    case op::dupfd: return call_dup(c);
    case op::nonblock: return call_nonblock(c);
    case op::setopt: return call_setopt(c);
    case op::getopt: return call_getopt(c);
    default: return call_fionread(c);
  }
}

}  // namespace oracle
