// SPDX-License-Identifier: Apache-2.0
// Hook: syscall(). Runtimes close, and sometimes read and write, by number;
// what has a hook under its own name takes that way.
#include <socket_shim/hook.hpp>

#include <socket_shim/real.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdarg>

namespace {

template <class Pointer>
Pointer at(long argument) noexcept {
  return reinterpret_cast<Pointer>(argument);
}

}  // namespace

SHIM_HOOK long syscall(long number, ...) {
  using function = long(long, long, long, long, long, long, long);
  static shim::real_function<function> next("syscall");
  std::va_list arguments;
  va_start(arguments, number);
  const long a = va_arg(arguments, long);
  const long b = va_arg(arguments, long);
  const long c = va_arg(arguments, long);
  const long d = va_arg(arguments, long);
  const long e = va_arg(arguments, long);
  const long f = va_arg(arguments, long);
  va_end(arguments);

  const int fd = static_cast<int>(a);
  const auto size = static_cast<std::size_t>(c);
  switch (number) {
    case SYS_close: return ::close(fd);
    case SYS_close_range:
      return ::close_range(static_cast<unsigned>(a), static_cast<unsigned>(b), static_cast<int>(c));
    case SYS_dup: return ::dup(fd);
#ifdef SYS_dup2
    case SYS_dup2: return ::dup2(fd, static_cast<int>(b));
#endif
    case SYS_dup3: return ::dup3(fd, static_cast<int>(b), static_cast<int>(c));
    case SYS_fcntl: return ::fcntl(fd, static_cast<int>(b), c);
    case SYS_ioctl: return ::ioctl(fd, static_cast<unsigned long>(b), c);

    case SYS_socket: return ::socket(fd, static_cast<int>(b), static_cast<int>(c));
    case SYS_listen: return ::listen(fd, static_cast<int>(b));
    case SYS_connect: return ::connect(fd, at<const sockaddr*>(b), static_cast<socklen_t>(c));
#ifdef SYS_accept
    case SYS_accept: return ::accept(fd, at<sockaddr*>(b), at<socklen_t*>(c));
#endif
    case SYS_accept4:
      return ::accept4(fd, at<sockaddr*>(b), at<socklen_t*>(c), static_cast<int>(d));
    case SYS_shutdown: return ::shutdown(fd, static_cast<int>(b));
    case SYS_setsockopt:
      return ::setsockopt(fd, static_cast<int>(b), static_cast<int>(c), at<const void*>(d),
                          static_cast<socklen_t>(e));

    case SYS_read: return ::read(fd, at<void*>(b), size);
    case SYS_readv: return ::readv(fd, at<const iovec*>(b), static_cast<int>(c));
    case SYS_recvfrom:
      return ::recvfrom(fd, at<void*>(b), size, static_cast<int>(d), at<sockaddr*>(e),
                        at<socklen_t*>(f));
    case SYS_recvmsg: return ::recvmsg(fd, at<msghdr*>(b), static_cast<int>(c));
    case SYS_write: return ::write(fd, at<const void*>(b), size);
    case SYS_writev: return ::writev(fd, at<const iovec*>(b), static_cast<int>(c));
    case SYS_sendto:
      return ::sendto(fd, at<const void*>(b), size, static_cast<int>(d), at<const sockaddr*>(e),
                      static_cast<socklen_t>(f));
    case SYS_sendmsg: return ::sendmsg(fd, at<const msghdr*>(b), static_cast<int>(c));
    case SYS_sendfile:
      return ::sendfile64(fd, static_cast<int>(b), at<off64_t*>(c), static_cast<std::size_t>(d));
    case SYS_splice:
      return ::splice(fd, at<off64_t*>(b), static_cast<int>(c), at<off64_t*>(d),
                      static_cast<std::size_t>(e), static_cast<unsigned>(f));

    case SYS_epoll_create1: return ::epoll_create1(fd);
    case SYS_epoll_ctl:
      return ::epoll_ctl(fd, static_cast<int>(b), static_cast<int>(c), at<epoll_event*>(d));
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
      return ::epoll_wait(fd, at<epoll_event*>(b), static_cast<int>(c), static_cast<int>(d));
#endif
    case SYS_epoll_pwait:
      return ::epoll_pwait(fd, at<epoll_event*>(b), static_cast<int>(c), static_cast<int>(d),
                           at<const sigset_t*>(e));
#ifdef SYS_poll
    case SYS_poll: return ::poll(at<pollfd*>(a), static_cast<nfds_t>(b), static_cast<int>(c));
#endif
    default: return next(number, a, b, c, d, e, f);
  }
}
