// SPDX-License-Identifier: Apache-2.0
// Hooks: descriptors that are closed, copied or set up. What becomes of the
// socket behind one is said in process.cpp.
#include <socket_shim/hook.hpp>

#include <socket_shim/epoll.hpp>
#include <socket_shim/memory.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>
#include <socket_shim/wait.hpp>

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>

using shim::endpoint;
using shim::real;
using shim::self;

namespace {

int duplicated(int from, int to) noexcept {
  if (to < 0 || to == from) return to;
  self.fresh(to);
  // A child of vfork does this for the program that it is about to become.
  if (!self.share(from, to)) self.give_to_kernel(from, shim::process::after_leaving::drains);
  // stdio holds these three, and its calls are seen by nobody.
  if (to <= STDERR_FILENO) self.retire(to);
  return to;
}

// dup2 closes the target in one step; ours has to be told before, but only if
// the kernel will do it.
void replaced(int from, int to) noexcept {
  if (from == to || self.find(to) == nullptr || real.fcntl(from, F_GETFD) < 0) return;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && static_cast<rlim_t>(to) >= limit.rlim_cur) return;
  self.drop(to);
}

void set_mode(int fd, bool blocks, bool signals) noexcept {
  endpoint* known = self.find(fd);
  if (known == nullptr) return;
  known->modes.store(blocks ? endpoint::blocking : endpoint::non_blocking,
                     std::memory_order_relaxed);
  if (signals) self.retire(fd);  // nobody sends SIGIO for bytes in a DMB
}

int fcntl_hook(int fd, int command, void* argument) noexcept {
  const int answer = real.fcntl(fd, command, argument);
  if (answer < 0) return answer;
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) return duplicated(fd, answer);
  if (command == F_SETFL) {
    const auto flags = static_cast<int>(reinterpret_cast<std::intptr_t>(argument));
    set_mode(fd, (flags & O_NONBLOCK) == 0, (flags & O_ASYNC) != 0);
  }
  return answer;
}

}  // namespace

// ---- closing ---------------------------------------------------------------

SHIM_HOOK int close(int fd) {
  self.drop(fd);
  return real.close(fd);
}
SHIM_HOOK int __close(int) __attribute__((alias("close")));
SHIM_HOOK int __close_nocancel(int) __attribute__((alias("close")));

SHIM_HOOK int close_range(unsigned first, unsigned last, int flags) noexcept {
  const auto wanted = static_cast<unsigned>(flags);
  const bool is_valid =
      first <= last && (wanted & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) == 0;
  if (is_valid && (wanted & CLOSE_RANGE_UNSHARE) != 0 && !shim::is_alone()) {
    // Other threads keep what this one closes.
    self.distrust_numbers();
  } else if (is_valid && (wanted & CLOSE_RANGE_CLOEXEC) == 0) {
    self.drop_range(first, last);
  }
  return real.close_range(first, last, flags);
}

SHIM_HOOK void closefrom(int first) noexcept {
  close_range(first < 0 ? 0U : static_cast<unsigned>(first), ~0U, 0);
}

// ---- copies ----------------------------------------------------------------

SHIM_HOOK int dup(int fd) noexcept { return duplicated(fd, real.dup(fd)); }

SHIM_HOOK int dup2(int from, int to) noexcept {
  replaced(from, to);
  return duplicated(from, real.dup2(from, to));
}
SHIM_HOOK int __dup2(int, int) noexcept __attribute__((alias("dup2")));

SHIM_HOOK int dup3(int from, int to, int flags) noexcept {
  if ((flags & ~O_CLOEXEC) == 0) replaced(from, to);
  return duplicated(from, real.dup3(from, to, flags));
}

// ---- set-up ----------------------------------------------------------------

SHIM_HOOK int fcntl(int fd, int command, ...) {
  std::va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  return fcntl_hook(fd, command, argument);
}
SHIM_HOOK int fcntl64(int, int, ...) __attribute__((alias("fcntl")));
SHIM_HOOK int __fcntl(int, int, ...) __attribute__((alias("fcntl")));

SHIM_HOOK int ioctl(int fd, unsigned long request, ...) noexcept {
  std::va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  const shim::pinned known = self.find_live(fd);
  // FIONREAD is also SIOCINQ and TIOCINQ.
  shim::tcp_socket tcp(fd);
  if (known && request == FIONREAD && shim::is_writable(argument, sizeof(int))) {
    const int saved = errno;
    *static_cast<int*>(argument) = static_cast<int>(known->link.readable_size(tcp));
    shim::sync_members(*known);
    errno = saved;
    return 0;
  }
  const int answer = real.ioctl(fd, request, argument);
  if (answer != 0 || !known) return answer;
  // SIOCOUTQ, also TIOCOUTQ: what is in a DMB has reached the peer, as
  // acknowledged bytes have. So what the kernel says is true.
  if (request == FIONBIO) {
    set_mode(fd, *static_cast<int*>(argument) == 0, false);
  } else if (request == FIOASYNC && *static_cast<int*>(argument) != 0) {
    self.retire(fd);
  } else if (request == SIOCATMARK && known->link.has_dmb_input(tcp)) {
    *static_cast<int*>(argument) = 0;  // these bytes come first
  }
  return answer;
}

SHIM_HOOK int sockatmark(int fd) noexcept {
  int is_at_mark = 0;
  return ioctl(fd, SIOCATMARK, &is_at_mark) == 0 ? is_at_mark : -1;
}
