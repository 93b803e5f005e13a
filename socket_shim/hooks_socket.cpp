// SPDX-License-Identifier: Apache-2.0
// Hooks: sockets and descriptors as such. Each is a line or three; what they
// mean is said in meet.cpp and process.cpp.
#include <socket_shim/hook.hpp>

#include <socket_shim/meet.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>

#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdint>
#include <cstring>

using shim::endpoint;
using shim::real;
using shim::self;

namespace {

// A new number from the kernel: nothing we knew of it is true any more.
int fresh(int fd) noexcept {
  self.forget_new(fd);
  if (fd >= 0 && self.find(fd) != nullptr) self.drop_stale(fd);
  return fd;
}

int duplicated(int from, int to) noexcept {
  if (to >= 0 && to != from) {
    fresh(to);
    // A child of vfork does this for the program that it is about to become.
    if (!self.share(from, to)) self.give_to_kernel(from);
  }
  return to;
}

// dup2 closes the target in one step; ours has to be told before.
void replaced(int from, int to) noexcept {
  if (from != to && self.find(to) != nullptr && real.fcntl(from, F_GETFD) >= 0) self.drop(to);
}

int fcntl_hook(int fd, int command, void* argument) noexcept {
  const int answer = real.fcntl(fd, command, argument);
  if (answer < 0) return answer;
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) return duplicated(fd, answer);
  if (command == F_SETFL) {
    if (endpoint* known = self.find(fd)) {
      const auto flags = static_cast<int>(reinterpret_cast<std::intptr_t>(argument));
      known->modes.store((flags & O_NONBLOCK) != 0 ? endpoint::non_blocking : endpoint::blocking,
                         std::memory_order_relaxed);
    }
  }
  return answer;
}

// Options that bind a connection to the kernel's TCP.
bool binds_to_tcp(int level, int name) noexcept {
  if (level == SOL_SOCKET) {
    return name == SO_ZEROCOPY || name == SO_MARK || name == SO_BINDTODEVICE ||
           name == SO_ATTACH_FILTER || name == SO_ATTACH_BPF || name == SO_TIMESTAMPING ||
           name == SO_RCVLOWAT;
  }
  return level == IPPROTO_TCP && (name == TCP_REPAIR || name == TCP_MD5SIG);
}

}  // namespace

SHIM_HOOK int socket(int domain, int type, int protocol) {
  const int made = fresh(real.socket(domain, type, protocol));
  const bool is_tcp = (domain == AF_INET || domain == AF_INET6) &&
                      (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
                      (protocol == 0 || protocol == IPPROTO_TCP);
  if (made >= 0 && is_tcp) self.note_new(made);
  return made;
}

SHIM_HOOK int listen(int fd, int backlog) {
  const int answer = real.listen(fd, backlog);
  if (answer == 0) shim::publish_listener(fd);
  return answer;
}

SHIM_HOOK int connect(int fd, const sockaddr* to, socklen_t size) {
  return shim::connect_stream(fd, to, size);
}

SHIM_HOOK int accept4(int fd, sockaddr* from, socklen_t* size, int flags) {
  return shim::accept_stream(fd, from, size, flags);
}

SHIM_HOOK int accept(int fd, sockaddr* from, socklen_t* size) {
  return shim::accept_stream(fd, from, size, 0);
}

SHIM_HOOK int shutdown(int fd, int how) {
  if (const shim::pinned known = self.find_live(fd); known && how != SHUT_RD) {
    known->link.shutdown_write();
  }
  return real.shutdown(fd, how);
}

SHIM_HOOK int close(int fd) {
  self.drop(fd);
  return real.close(fd);
}

SHIM_HOOK int close_range(unsigned first, unsigned last, int flags) {
  if ((static_cast<unsigned>(flags) & CLOSE_RANGE_CLOEXEC) == 0 && first <= last)
    self.drop_range(first, last);
  return real.close_range(first, last, flags);
}

SHIM_HOOK void closefrom(int first) {
  close_range(first < 0 ? 0U : static_cast<unsigned>(first), ~0U, 0);
}

SHIM_HOOK int dup(int fd) { return duplicated(fd, real.dup(fd)); }

SHIM_HOOK int dup2(int from, int to) {
  replaced(from, to);
  return duplicated(from, real.dup2(from, to));
}

SHIM_HOOK int dup3(int from, int to, int flags) {
  replaced(from, to);
  return duplicated(from, real.dup3(from, to, flags));
}

SHIM_HOOK int fcntl(int fd, int command, ...) {
  std::va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  return fcntl_hook(fd, command, argument);
}

SHIM_HOOK int fcntl64(int fd, int command, ...) {
  std::va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  return fcntl_hook(fd, command, argument);
}

SHIM_HOOK int ioctl(int fd, unsigned long request, ...) {
  std::va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  const shim::pinned known = self.find_live(fd);
  if (known && request == FIONREAD && argument != nullptr) {
    shim::tcp_socket tcp(fd);
    *static_cast<int*>(argument) = static_cast<int>(known->link.readable_size(tcp));
    return 0;
  }
  const int answer = real.ioctl(fd, request, argument);
  // SIOCOUTQ: what is in a DMB has reached the peer, as acknowledged bytes have.
  if (answer == 0 && known && request == FIONBIO) {
    known->modes.store(
        *static_cast<int*>(argument) != 0 ? endpoint::non_blocking : endpoint::blocking,
        std::memory_order_relaxed);
  }
  return answer;
}

SHIM_HOOK int setsockopt(int fd, int level, int name, const void* value, socklen_t size) {
  // The kernel takes over what is said on the connection (kTLS).
  if (level == IPPROTO_TCP && name == TCP_ULP) self.give_to_kernel(fd);
  const int answer = real.setsockopt(fd, level, name, value, size);
  const shim::pinned known = answer == 0 ? self.find_live(fd) : shim::pinned();
  if (!known) return answer;
  if (level == SOL_SOCKET && name == SO_RCVTIMEO) {
    known->receive_timeout_us.store(endpoint::not_asked, std::memory_order_relaxed);
  } else if (level == SOL_SOCKET && name == SO_SNDTIMEO) {
    known->send_timeout_us.store(endpoint::not_asked, std::memory_order_relaxed);
  } else if (binds_to_tcp(level, name)) {
    self.retire(fd);
  }
  return answer;
}

namespace {

int fd_of(void* cookie) noexcept {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(cookie));
}

// A FILE over our calls. It answers fileno() as any other does.
FILE* open_over_hooks(int fd, const char* mode) noexcept {
  constexpr cookie_io_functions_t calls{
      [](void* of, char* to, std::size_t size) -> ssize_t { return ::read(fd_of(of), to, size); },
      [](void* of, const char* from, std::size_t size) -> ssize_t {
        const ssize_t sent = ::write(fd_of(of), from, size);
        return sent < 0 ? 0 : sent;  // what stdio takes for an error here
      },
      nullptr, [](void* of) -> int { return ::close(fd_of(of)); }};
  FILE* opened = ::fopencookie(reinterpret_cast<void*>(std::intptr_t{fd}), mode, calls);
  if (opened == nullptr) return nullptr;
  opened->_fileno = fd;
  if (std::strchr(mode, 'e') != nullptr) real.fcntl(fd, F_SETFD, FD_CLOEXEC);
  return opened;
}

}  // namespace

// stdio reads and writes its descriptor past every hook. A connection that
// nobody joined stays on TCP; where CLC bytes or DMBs may be met already, stdio
// gets our calls instead of the kernel's.
SHIM_HOOK FILE* fdopen(int fd, const char* mode) {
  using function = FILE*(int, const char*);
  static shim::real_function<function> next("fdopen");
  if (const shim::pinned known = self.find_live(fd); known && mode != nullptr) {
    if (known->link.stage() == smcd::end_stage::candidate) {
      self.retire(fd);
    }
    if (!known->link.is_plain()) return open_over_hooks(fd, mode);
  }
  return next(fd, mode);
}

SHIM_HOOK int fclose(FILE* file) {
  using function = int(FILE*);
  static shim::real_function<function> next("fclose");
  const int fd = file != nullptr ? ::fileno(file) : -1;
  if (fd >= 0 && self.find(fd) != nullptr) {
    static_cast<void>(::fflush(file));  // the last bytes go out before the end is said
    self.drop(fd);
  }
  return next(file);
}
