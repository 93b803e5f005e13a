// SPDX-License-Identifier: Apache-2.0
// Hooks: readiness. See poll.cpp and epoll.cpp.
#include <socket_shim/hook.hpp>

#include <socket_shim/epoll.hpp>
#include <socket_shim/memory.hpp>
#include <socket_shim/poll.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include <algorithm>
#include <climits>

using shim::deadline;
using shim::endpoint;
using shim::real;
using shim::self;

// ---- poll and select -------------------------------------------------------

SHIM_HOOK int poll(pollfd* fds, nfds_t count, int timeout) {
  if (!shim::concerns_us(fds, count)) return real.poll(fds, count, timeout);
  return shim::poll_streams(fds, count, deadline::after_ms(timeout), nullptr);
}

SHIM_HOOK int __poll(pollfd*, nfds_t, int) __attribute__((alias("poll")));

SHIM_HOOK int __poll_chk(pollfd* fds, nfds_t count, int timeout, std::size_t room) {
  if (room / sizeof(pollfd) < count) __builtin_trap();
  return poll(fds, count, timeout);
}

SHIM_HOOK int ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (!shim::concerns_us(fds, count) || (timeout != nullptr && !shim::is_time(timeout))) {
    return real.ppoll(fds, count, timeout, mask);
  }
  return shim::poll_streams(fds, count, deadline::after(timeout), mask);
}

SHIM_HOOK int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask,
                          std::size_t room) {
  if (room / sizeof(pollfd) < count) __builtin_trap();
  return ppoll(fds, count, timeout, mask);
}

SHIM_HOOK int select(int count, fd_set* in, fd_set* out, fd_set* except, timeval* timeout) {
  const bool is_sound = timeout == nullptr || (shim::is_writable(timeout, sizeof *timeout) &&
                                               timeout->tv_sec >= 0 && timeout->tv_usec >= 0);
  if (!is_sound || !shim::concerns_us(count, in, out, except)) {
    return real.select(count, in, out, except, timeout);
  }
  if (timeout == nullptr) {
    return shim::select_streams(count, in, out, except, deadline::never(), nullptr);
  }
  // More microseconds than a second has are allowed here.
  const timespec wanted{timeout->tv_sec + timeout->tv_usec / 1'000'000,
                        timeout->tv_usec % 1'000'000 * 1000};
  const deadline until = deadline::after(&wanted);
  const int found = shim::select_streams(count, in, out, except, until, nullptr);
  // Linux tells how much time was left.
  const timespec left = until.left();
  *timeout = {left.tv_sec, left.tv_nsec / 1000};
  return found;
}
SHIM_HOOK int __select(int, fd_set*, fd_set*, fd_set*, timeval*) __attribute__((alias("select")));

SHIM_HOOK int pselect(int count, fd_set* in, fd_set* out, fd_set* except, const timespec* timeout,
                      const sigset_t* mask) {
  if ((timeout != nullptr && !shim::is_time(timeout)) ||
      !shim::concerns_us(count, in, out, except)) {
    return real.pselect(count, in, out, except, timeout, mask);
  }
  return shim::select_streams(count, in, out, except, deadline::after(timeout), mask);
}

// ---- epoll -----------------------------------------------------------------

SHIM_HOOK int epoll_create1(int flags) {
  const int made = self.fresh(real.epoll_create1(flags));
  if (made >= 0) shim::note_set(made);
  return made;
}

SHIM_HOOK int epoll_create(int size) {
  if (size <= 0) {
    errno = EINVAL;
    return -1;
  }
  return epoll_create1(0);
}

SHIM_HOOK int epoll_ctl(int epfd, int operation, int fd, epoll_event* event) {
  endpoint* known = self.find(fd);
  if (known == nullptr) {
    const int answer = real.epoll_ctl(epfd, operation, fd, event);
    if (answer == 0 && operation == EPOLL_CTL_ADD) shim::note_in_set(fd);
    return answer;
  }
  if (known->kind == endpoint::kind_of::epoll && operation == EPOLL_CTL_ADD) {
    // a set in a set
    if (shim::epoll_set* inner = shim::set_of(fd)) inner->pin_to_tcp();
  }
  if (known->kind != endpoint::kind_of::stream ||
      (operation != EPOLL_CTL_DEL && !shim::is_readable(event, sizeof *event))) {
    return real.epoll_ctl(epfd, operation, fd, event);
  }
  shim::epoll_set* set = nullptr;
  for (shim::member* at = known->members.load(std::memory_order_acquire); at != nullptr;
       at = at->next_of_stream) {
    if (at->fd != fd || (set == nullptr && (set = shim::set_of(epfd)) == nullptr)) continue;
    if (at->set != set) continue;
    if (at->is_parked) {
      if (operation == EPOLL_CTL_ADD && event != nullptr) {
        if (set->readmit(*at, *event)) return 0;
        break;
      }
      errno = ENOENT;
      return -1;
    }
    if (operation == EPOLL_CTL_MOD && event != nullptr) return set->modify(*at, *event);
    if (operation == EPOLL_CTL_DEL) return set->remove(*at);
    break;
  }
  if (operation != EPOLL_CTL_ADD || event == nullptr || known->link.is_plain() || !self.is_self() ||
      (set = shim::set_of(epfd)) == nullptr) {
    return real.epoll_ctl(epfd, operation, fd, event);
  }
  return set->add(*known, fd, *event);
}

namespace {

int wait_in(shim::epoll_set& set, int epfd, epoll_event* to, int count, const deadline& until,
            const sigset_t* mask) {
  constexpr int enough = 1024;  // one call need not give more
  const int room = std::min(count, enough);
  if (shim::is_writable(to, static_cast<std::size_t>(room) * sizeof *to)) [[likely]] {
    return set.wait(epfd, to, room, until, mask);
  }
  // Not all of that memory is there: no more than one at a time.
  epoll_event one{};
  const int found = set.wait(epfd, &one, 1, until, mask);
  if (found <= 0) return found;
  if (!shim::is_writable(to, sizeof *to)) {
    errno = EFAULT;
    return -1;
  }
  *to = one;
  return 1;
}

// A set without live streams is the kernel's business, but other threads may
// add some while this one is there.
template <class InKernel>
int wait_on(int epfd, epoll_event* to, int count, const sigset_t* mask, const deadline& until,
            InKernel in_kernel) {
  const endpoint* known = self.find(epfd);
  constexpr int most = INT_MAX / static_cast<int>(sizeof(epoll_event));
  if (known == nullptr || known->kind != endpoint::kind_of::epoll || count <= 0 || count > most) {
    return in_kernel();
  }
  shim::epoll_set* set = known->set.load(std::memory_order_acquire);
  if (set == nullptr || !set->has_members()) {
    set = shim::is_alone() ? nullptr : shim::set_of(epfd);
    if (set == nullptr) return in_kernel();
    if (set->enter_kernel()) {
      int answer = in_kernel();
      if (set->leave_kernel(to, count, answer)) return answer;
    }
  }
  return wait_in(*set, epfd, to, count, until, mask);
}

}  // namespace

SHIM_HOOK int epoll_wait(int epfd, epoll_event* to, int count, int timeout) {
  return wait_on(epfd, to, count, nullptr, deadline::after_ms(timeout),
                 [=]() noexcept { return real.epoll_wait(epfd, to, count, timeout); });
}

SHIM_HOOK int epoll_pwait(int epfd, epoll_event* to, int count, int timeout, const sigset_t* mask) {
  return wait_on(epfd, to, count, mask, deadline::after_ms(timeout),
                 [=]() noexcept { return real.epoll_pwait(epfd, to, count, timeout, mask); });
}

SHIM_HOOK int epoll_pwait2(int epfd, epoll_event* to, int count, const timespec* timeout,
                           const sigset_t* mask) {
  const auto in_kernel = [=]() noexcept {
    return real.epoll_pwait2(epfd, to, count, timeout, mask);
  };
  if (timeout != nullptr && !shim::is_time(timeout)) return in_kernel();
  return wait_on(epfd, to, count, mask, deadline::after(timeout), in_kernel);
}
