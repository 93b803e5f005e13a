// SPDX-License-Identifier: Apache-2.0
// Hooks: sockets and their options. Where streams come from is said in
// meet.cpp.
#include <socket_shim/hook.hpp>

#include <socket_shim/epoll.hpp>
#include <socket_shim/meet.hpp>
#include <socket_shim/options.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

using shim::real;
using shim::self;

SHIM_HOOK int socket(int domain, int type, int protocol) noexcept {
  const int made = self.fresh(real.socket(domain, type, protocol));
  const bool is_tcp = (domain == AF_INET || domain == AF_INET6) &&
                      (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
                      (protocol == 0 || protocol == IPPROTO_TCP);
  if (made >= 0 && is_tcp) self.note_new(made);
  return made;
}

SHIM_HOOK int listen(int fd, int backlog) noexcept {
  const int answer = real.listen(fd, backlog);
  if (answer == 0) shim::publish_listener(fd);
  return answer;
}

SHIM_HOOK int connect(int fd, const sockaddr* to, socklen_t size) {
  return shim::connect_stream(fd, to, size);
}
SHIM_HOOK int __connect(int, const sockaddr*, socklen_t) __attribute__((alias("connect")));

SHIM_HOOK int accept4(int fd, sockaddr* from, socklen_t* size, int flags) {
  return shim::accept_stream(fd, from, size, flags);
}

SHIM_HOOK int accept(int fd, sockaddr* from, socklen_t* size) {
  return shim::accept_stream(fd, from, size, 0);
}

SHIM_HOOK int shutdown(int fd, int how) noexcept {
  if (const shim::pinned known = self.find_live(fd)) {
    if (how == SHUT_RD || how == SHUT_RDWR) known->link.shutdown_read();
    if (how == SHUT_WR || how == SHUT_RDWR) known->link.shutdown_write();
    shim::tcp_socket tcp(fd);
    known->link.settle_shutdown(tcp);
  }
  const int answer = real.shutdown(fd, how);
  // To edge-triggered sets this is an event.
  if (const shim::pinned known = self.find_live(fd); known && answer == 0) {
    shim::tell_members(*known);
    // To those of other processes, too.
    if (known->link.is_shared()) known->link.wake_waiters();
  }
  return answer;
}

SHIM_HOOK int setsockopt(int fd, int level, int name, const void* value, socklen_t size) noexcept {
  shim::before_setting(fd, level, name);
  const int answer = real.setsockopt(fd, level, name, value, size);
  if (answer == 0) shim::follow_option(fd, level, name);
  return answer;
}

SHIM_HOOK int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept {
  shim::before_asking(fd, level, name);
  const int answer = real.getsockopt(fd, level, name, value, size);
  if (answer == 0) shim::complete_option(fd, level, name, value, *size);
  return answer;
}
