// SPDX-License-Identifier: Apache-2.0
// Hook: syscall(). Runtimes close, and sometimes read and write, by number;
// what has a hook under its own name takes that way, and the rest goes to the
// kernel as it came.
#include <socket_shim/hook.hpp>

#include <socket_shim/memory.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/wait.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <optional>

namespace {

using shim::self;

using arguments = std::array<long, 6>;

template <class Pointer>
Pointer at(long argument) noexcept {
  return reinterpret_cast<Pointer>(argument);
}
int number(long argument) noexcept { return static_cast<int>(argument); }
unsigned count(long argument) noexcept { return static_cast<unsigned>(argument); }
std::size_t size(long argument) noexcept { return static_cast<std::size_t>(argument); }

long to_kernel(long call, const arguments& a) noexcept {
  static shim::real_function<long(long, long, long, long, long, long, long)> next("syscall");
  return next(call, a[0], a[1], a[2], a[3], a[4], a[5]);
}

using answer = std::optional<long>;  // none: not of this group

answer on_descriptors(long call, const arguments& a) noexcept {
  const int fd = number(a[0]);
  switch (call) {
    case SYS_close: return ::close(fd);
    case SYS_close_range: return ::close_range(count(a[0]), count(a[1]), number(a[2]));
    case SYS_dup: return ::dup(fd);
#ifdef SYS_dup2
    case SYS_dup2: return ::dup2(fd, number(a[1]));
#endif
    case SYS_dup3: return ::dup3(fd, number(a[1]), number(a[2]));
    case SYS_fcntl: return ::fcntl(fd, number(a[1]), a[2]);
    case SYS_ioctl: return ::ioctl(fd, static_cast<unsigned long>(a[1]), a[2]);

    case SYS_socket: return ::socket(fd, number(a[1]), number(a[2]));
    case SYS_listen: return ::listen(fd, number(a[1]));
    case SYS_connect: return ::connect(fd, at<const sockaddr*>(a[1]), count(a[2]));
#ifdef SYS_accept
    case SYS_accept: return ::accept(fd, at<sockaddr*>(a[1]), at<socklen_t*>(a[2]));
#endif
    case SYS_accept4: return ::accept4(fd, at<sockaddr*>(a[1]), at<socklen_t*>(a[2]), number(a[3]));
    case SYS_shutdown: return ::shutdown(fd, number(a[1]));
    case SYS_setsockopt:
      return ::setsockopt(fd, number(a[1]), number(a[2]), at<const void*>(a[3]), count(a[4]));
    default: return {};
  }
}

answer on_bytes(long call, const arguments& a) noexcept {
  const int fd = number(a[0]);
  switch (call) {
    case SYS_read: return ::read(fd, at<void*>(a[1]), size(a[2]));
    case SYS_readv: return ::readv(fd, at<const iovec*>(a[1]), number(a[2]));
    case SYS_preadv2:
      return ::preadv64v2(fd, at<const iovec*>(a[1]), number(a[2]), a[3], number(a[5]));
    case SYS_recvfrom:
      return ::recvfrom(fd, at<void*>(a[1]), size(a[2]), number(a[3]), at<sockaddr*>(a[4]),
                        at<socklen_t*>(a[5]));
    case SYS_recvmsg: return ::recvmsg(fd, at<msghdr*>(a[1]), number(a[2]));
    case SYS_recvmmsg:
      return ::recvmmsg(fd, at<mmsghdr*>(a[1]), count(a[2]), number(a[3]), at<timespec*>(a[4]));
    case SYS_write: return ::write(fd, at<const void*>(a[1]), size(a[2]));
    case SYS_writev: return ::writev(fd, at<const iovec*>(a[1]), number(a[2]));
    case SYS_pwritev2:
      return ::pwritev64v2(fd, at<const iovec*>(a[1]), number(a[2]), a[3], number(a[5]));
    case SYS_sendto:
      return ::sendto(fd, at<const void*>(a[1]), size(a[2]), number(a[3]),
                      at<const sockaddr*>(a[4]), count(a[5]));
    case SYS_sendmsg: return ::sendmsg(fd, at<const msghdr*>(a[1]), number(a[2]));
    case SYS_sendmmsg: return ::sendmmsg(fd, at<mmsghdr*>(a[1]), count(a[2]), number(a[3]));
    case SYS_sendfile: return ::sendfile64(fd, number(a[1]), at<off64_t*>(a[2]), size(a[3]));
    case SYS_splice:
      return ::splice(fd, at<off64_t*>(a[1]), number(a[2]), at<off64_t*>(a[3]), size(a[4]),
                      count(a[5]));
    default: return {};
  }
}

// As libc's calls, but these tell how much time was left.
long ppoll_by_number(const arguments& a) noexcept {
  auto* timeout = at<timespec*>(a[2]);
  if (timeout == nullptr || !shim::is_time(timeout)) {
    return ::ppoll(at<pollfd*>(a[0]), size(a[1]), timeout, at<const sigset_t*>(a[3]));
  }
  const shim::deadline until = shim::deadline::after(timeout);
  const int found = ::ppoll(at<pollfd*>(a[0]), size(a[1]), timeout, at<const sigset_t*>(a[3]));
  if (shim::is_writable(timeout, sizeof *timeout)) *timeout = until.left();
  return found;
}

long pselect_by_number(const arguments& a) noexcept {
  struct mask_and_size {
    const sigset_t* mask;
    std::size_t size;
  };
  const auto* how = at<const mask_and_size*>(a[5]);
  if (how != nullptr && !shim::is_readable(how, sizeof *how)) {
    errno = EFAULT;
    return -1;
  }
  auto* timeout = at<timespec*>(a[4]);
  const bool is_timed = timeout != nullptr && shim::is_time(timeout);
  const shim::deadline until = is_timed ? shim::deadline::after(timeout) : shim::deadline::never();
  const int found = ::pselect(number(a[0]), at<fd_set*>(a[1]), at<fd_set*>(a[2]), at<fd_set*>(a[3]),
                              timeout, how != nullptr ? how->mask : nullptr);
  if (is_timed && shim::is_writable(timeout, sizeof *timeout)) *timeout = until.left();
  return found;
}

answer on_readiness(long call, const arguments& a) noexcept {
  const int fd = number(a[0]);
  switch (call) {
#ifdef SYS_epoll_create
    case SYS_epoll_create: return ::epoll_create(fd);
#endif
    case SYS_epoll_create1: return ::epoll_create1(fd);
    case SYS_epoll_ctl: return ::epoll_ctl(fd, number(a[1]), number(a[2]), at<epoll_event*>(a[3]));
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
      return ::epoll_wait(fd, at<epoll_event*>(a[1]), number(a[2]), number(a[3]));
#endif
    case SYS_epoll_pwait:
      return ::epoll_pwait(fd, at<epoll_event*>(a[1]), number(a[2]), number(a[3]),
                           at<const sigset_t*>(a[4]));
    case SYS_epoll_pwait2:
      return ::epoll_pwait2(fd, at<epoll_event*>(a[1]), number(a[2]), at<const timespec*>(a[3]),
                            at<const sigset_t*>(a[4]));
#ifdef SYS_poll
    case SYS_poll: return ::poll(at<pollfd*>(a[0]), size(a[1]), number(a[2]));
#endif
    case SYS_ppoll: return ppoll_by_number(a);
#ifdef SYS_select
    case SYS_select:
      return ::select(number(a[0]), at<fd_set*>(a[1]), at<fd_set*>(a[2]), at<fd_set*>(a[3]),
                      at<timeval*>(a[4]));
#endif
    case SYS_pselect6: return pselect_by_number(a);
    default: return {};
  }
}

// A copy of this process, or a thread. Those that share memory run on our stack
// or on one of their own, and come back to the caller either way.
long copy_process(long call, const arguments& a, std::uint64_t flags) noexcept {
  self.before_clone(flags);
  if ((flags & CLONE_VM) != 0) return to_kernel(call, a);
  self.before_fork();
  const long child = to_kernel(call, a);
  if (child == 0) {
    self.after_fork_in_child();
  } else {
    self.after_fork_in_parent();
  }
  return child;
}

answer on_processes(long call, const arguments& a) noexcept {
  switch (call) {
    case SYS_execve:
      return ::execve(at<const char*>(a[0]), at<char* const*>(a[1]), at<char* const*>(a[2]));
    case SYS_execveat:
      return ::execveat(number(a[0]), at<const char*>(a[1]), at<char* const*>(a[2]),
                        at<char* const*>(a[3]), number(a[4]));
#ifdef SYS_fork
    case SYS_fork: return copy_process(call, a, 0);
#endif
#ifdef SYS_vfork
    // The child would come back through our frame: a fork does as well.
    case SYS_vfork: return copy_process(SYS_fork, a, 0);
#endif
    case SYS_clone: return copy_process(call, a, static_cast<std::uint64_t>(a[0]));
    case SYS_clone3: {
      const auto* flags = at<const std::uint64_t*>(a[0]);  // the first word
      if (!shim::is_readable(flags, sizeof *flags)) return {};
      return copy_process(call, a, *flags);
    }
    case SYS_unshare: return ::unshare(number(a[0]));
    case SYS_exit_group: self.leave(); return {};
    default: return {};
  }
}

// Rings move bytes, close and open where nobody looks.
answer on_rings(long call) noexcept {
  if (call != SYS_io_uring_setup) return {};
  if (!self.settings().has_io_uring) {
    errno = ENOSYS;
    return -1;
  }
  self.distrust_numbers();
  return {};
}

// Calls that give out a descriptor and are nothing to us otherwise.
bool makes_descriptor(long call) noexcept {
  switch (call) {
#ifdef SYS_open
    case SYS_open:
    case SYS_creat:
    case SYS_eventfd:
    case SYS_signalfd:
    case SYS_inotify_init:
#endif
    case SYS_openat:
    case SYS_openat2:
    case SYS_open_by_handle_at:
    case SYS_eventfd2:
    case SYS_signalfd4:
    case SYS_timerfd_create:
    case SYS_memfd_create:
    case SYS_inotify_init1:
    case SYS_fanotify_init:
    case SYS_userfaultfd:
    case SYS_perf_event_open:
    case SYS_bpf:
    case SYS_pidfd_open:
    case SYS_pidfd_getfd:
    case SYS_io_uring_setup: return true;
    default: return false;
  }
}

answer on_pairs(long call, const arguments& a) noexcept {
  switch (call) {
#ifdef SYS_pipe
    case SYS_pipe: return ::pipe(at<int*>(a[0]));
#endif
    case SYS_pipe2: return ::pipe2(at<int*>(a[0]), number(a[1]));
    case SYS_socketpair:
      return ::socketpair(number(a[0]), number(a[1]), number(a[2]), at<int*>(a[3]));
    default: return {};
  }
}

}  // namespace

SHIM_HOOK long syscall(long call, ...) {
  std::va_list list;
  va_start(list, call);
  arguments a{};
  for (long& each : a) each = va_arg(list, long);
  va_end(list);
  if (const answer given = on_bytes(call, a)) return *given;
  if (const answer given = on_readiness(call, a)) return *given;
  if (const answer given = on_descriptors(call, a)) return *given;
  if (const answer given = on_processes(call, a)) return *given;
  if (const answer given = on_pairs(call, a)) return *given;
  if (const answer given = on_rings(call)) return *given;
  const long made = to_kernel(call, a);
  return makes_descriptor(call) ? self.fresh(number(made)) : made;
}
