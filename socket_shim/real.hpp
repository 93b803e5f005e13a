// SPDX-License-Identifier: Apache-2.0
#pragma once
// The libc functions behind our hooks.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <ctime>

namespace shim {

// The next definition of `name` after this library, looked up on first use: a
// hook may run before any constructor of ours.
[[nodiscard]] void* next_symbol(const char* name) noexcept;

template <class Function>
class real_function {
 public:
  constexpr explicit real_function(const char* name) noexcept : name_(name) {}

  // Not noexcept: a thread may be cancelled inside, and unwinds from there.
  template <class... Arguments>
  auto operator()(Arguments... arguments) {
    void* found = found_.load(std::memory_order_relaxed);
    if (found == nullptr) [[unlikely]] {
      found = next_symbol(name_);
      found_.store(found, std::memory_order_relaxed);
    }
    return reinterpret_cast<Function*>(found)(arguments...);
  }

 private:
  const char* name_;
  std::atomic<void*> found_{nullptr};
};

// One entry for each libc function that we call past our own hooks.
struct real_functions {
  real_function<int(int, const sockaddr*, socklen_t)> connect{"connect"};
  real_function<int(int, sockaddr*, socklen_t*, int)> accept4{"accept4"};
  real_function<int(int, int)> listen{"listen"};
  real_function<int(int, int, int)> socket{"socket"};
  real_function<int(int)> close{"close"};
  real_function<int(unsigned, unsigned, int)> close_range{"close_range"};
  real_function<int(int, int)> shutdown{"shutdown"};
  real_function<int(int)> dup{"dup"};
  real_function<int(int, int)> dup2{"dup2"};
  real_function<int(int, int, int)> dup3{"dup3"};
  real_function<int(int, int, ...)> fcntl{"fcntl64"};
  real_function<int(int, unsigned long, ...)> ioctl{"ioctl"};
  real_function<int(int, int, int, const void*, socklen_t)> setsockopt{"setsockopt"};
  real_function<int(int, int, int, void*, socklen_t*)> getsockopt{"getsockopt"};

  real_function<ssize_t(int, void*, std::size_t)> read{"read"};
  real_function<ssize_t(int, const iovec*, int)> readv{"readv"};
  real_function<ssize_t(int, const iovec*, int, off64_t, int)> preadv2{"preadv64v2"};
  real_function<ssize_t(int, void*, std::size_t, int)> recv{"recv"};
  real_function<ssize_t(int, void*, std::size_t, int, sockaddr*, socklen_t*)> recvfrom{"recvfrom"};
  real_function<ssize_t(int, msghdr*, int)> recvmsg{"recvmsg"};
  real_function<int(int, mmsghdr*, unsigned, int, timespec*)> recvmmsg{"recvmmsg"};
  real_function<ssize_t(int, const void*, std::size_t)> write{"write"};
  real_function<ssize_t(int, const iovec*, int)> writev{"writev"};
  real_function<ssize_t(int, const iovec*, int, off64_t, int)> pwritev2{"pwritev64v2"};
  real_function<ssize_t(int, const void*, std::size_t, int)> send{"send"};
  real_function<ssize_t(int, const void*, std::size_t, int, const sockaddr*, socklen_t)> sendto{
      "sendto"};
  real_function<ssize_t(int, const msghdr*, int)> sendmsg{"sendmsg"};
  real_function<int(int, mmsghdr*, unsigned, int)> sendmmsg{"sendmmsg"};
  real_function<ssize_t(int, int, off64_t*, std::size_t)> sendfile{"sendfile64"};
  real_function<ssize_t(int, off64_t*, int, off64_t*, std::size_t, unsigned)> splice{"splice"};

  real_function<int(pollfd*, nfds_t, int)> poll{"poll"};
  real_function<int(pollfd*, nfds_t, const timespec*, const sigset_t*)> ppoll{"ppoll"};
  real_function<int(int, fd_set*, fd_set*, fd_set*, timeval*)> select{"select"};
  real_function<int(int, fd_set*, fd_set*, fd_set*, const timespec*, const sigset_t*)> pselect{
      "pselect"};
  real_function<int(int)> epoll_create1{"epoll_create1"};
  real_function<int(int, int, int, epoll_event*)> epoll_ctl{"epoll_ctl"};
  real_function<int(int, epoll_event*, int, int)> epoll_wait{"epoll_wait"};
  real_function<int(int, epoll_event*, int, int, const sigset_t*)> epoll_pwait{"epoll_pwait"};
  real_function<int(int, epoll_event*, int, const timespec*, const sigset_t*)> epoll_pwait2{
      "epoll_pwait2"};
};

extern constinit real_functions real;

}  // namespace shim
