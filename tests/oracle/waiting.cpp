// SPDX-License-Identifier: Apache-2.0
// Calls that ask what is ready.
#include "player.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include <algorithm>
#include <utility>

namespace oracle {
namespace {

constexpr int overlapping_ms = 300;
constexpr int alone_ms = 2;

// When a full buffer takes bytes again is not TCP's to say: room is only asked
// for where there must be some.
bool has_certain_room(const call& c, int fd) {
  const int end = c.book.end_of(fd);
  return end < 0 ||
         c.book.unread(static_cast<int>(peer_of(static_cast<std::size_t>(end)))) <= certain_room;
}

// Makes the call; if the next step is to end the waiting, only after it was
// seen that there is something to wait for.
template <class Make>
void wait(call& c, int ms, Make one) {
  if (c.is_offered && next_step_tells(c)) {
    if (c.make([&] { return one(0); }) != 0) return;
    c.overlap();
    ms = overlapping_ms;
  } else if (ms != 0) {
    ms = alone_ms;
  }
  c.make([&] { return one(ms); });
}

void call_poll(call& c) {
  std::array<pollfd, 3> fds{};
  const auto count = static_cast<std::size_t>(std::clamp(c.arg(1), 0, 3));
  for (std::size_t i = 0; i < count; ++i) {
    fds[i] = {c.book.fd_of(c.arg(2 + 2 * i)), static_cast<short>(c.arg(3 + 2 * i)), 0x7FFF};
    if (!has_certain_room(c, fds[i].fd)) {
      fds[i].events = static_cast<short>(fds[i].events & ~(POLLOUT | POLLWRNORM));
    }
  }
  wait(c, c.arg(0), [&](int ms) {
    const timespec limit{ms / 1000, ms % 1000 * 1'000'000L};
    return c.of.what == op::poll ? ::poll(fds.data(), count, ms)
                                 : ::ppoll(fds.data(), count, &limit, nullptr);
  });
  for (std::size_t i = 0; i < count; ++i) c.note(fds[i].revents);
}

void call_select(call& c) {
  std::array<fd_set, 3> asked;
  for (fd_set& one : asked) FD_ZERO(&one);
  const auto count = static_cast<std::size_t>(std::clamp(c.arg(1), 0, 3));
  int highest = -1;
  for (std::size_t i = 0; i < count; ++i) {
    const int fd = c.book.fd_of(c.arg(2 + 2 * i));
    const int events = c.arg(3 + 2 * i);
    if (fd < 0 || fd >= FD_SETSIZE) continue;
    highest = std::max(highest, fd);
    if ((events & POLLIN) != 0) FD_SET(fd, &asked[0]);
    if ((events & POLLOUT) != 0 && has_certain_room(c, fd)) FD_SET(fd, &asked[1]);
    if ((events & POLLPRI) != 0) FD_SET(fd, &asked[2]);
  }
  std::array<fd_set, 3> sets;
  wait(c, c.arg(0), [&](int ms) {
    sets = asked;
    timeval limit{ms / 1000, ms % 1000 * 1000};
    const timespec precise{ms / 1000, ms % 1000 * 1'000'000L};
    return c.of.what == op::select
               ? ::select(highest + 1, &sets[0], &sets[1], &sets[2], &limit)
               : ::pselect(highest + 1, &sets[0], &sets[1], &sets[2], &precise, nullptr);
  });
  for (std::size_t i = 0; i < count; ++i) {
    const int fd = c.book.fd_of(c.arg(2 + 2 * i));
    if (fd < 0 || fd >= FD_SETSIZE) continue;
    c.note((FD_ISSET(fd, &sets[0]) ? 1 : 0) | (FD_ISSET(fd, &sets[1]) ? 2 : 0) |
           (FD_ISSET(fd, &sets[2]) ? 4 : 0));
  }
}

// The data of an entry: what the program chose, and the end it stands for, for
// us to know whether room may be looked at.
std::uint64_t data_of(const call& c, int fd) {
  return static_cast<std::uint64_t>(c.book.end_of(fd) + 1) << 32 |
         static_cast<std::uint32_t>(c.arg(4));
}

void call_epoll_wait(call& c) {
  std::array<epoll_event, 8> events{};
  const int most = std::min(c.arg(1), 8);
  const int set = c.fd();
  wait(c, c.arg(2), [&](int ms) {
    return c.arg(3) == 0 ? ::epoll_wait(set, events.data(), most, ms)
                         : ::epoll_pwait(set, events.data(), most, ms, nullptr);
  });
  // Their order is not determined, nor which come first if not all do.
  std::vector<std::pair<std::uint64_t, std::uint32_t>> found;
  for (std::int64_t i = 0; i < c.log.value; ++i) {
    const epoll_event& one = events[static_cast<std::size_t>(i)];
    const std::uint64_t data = one.data.u64;
    const auto end = static_cast<int>(data >> 32) - 1;
    std::uint32_t what = one.events;
    if (end >= 0 &&
        c.book.unread(static_cast<int>(peer_of(static_cast<std::size_t>(end)))) > certain_room) {
      what &= ~static_cast<std::uint32_t>(EPOLLOUT | EPOLLWRNORM);
    }
    if (what != 0) found.emplace_back(data & 0xFFFFFFFF, what);
  }
  std::sort(found.begin(), found.end());
  if (c.log.value > 0) c.log.value = static_cast<std::int64_t>(found.size());
  for (const auto& [data, what] : found) c.note(static_cast<std::int64_t>(data << 32 | what));
}

}  // namespace

void take_waiting_step(call& c) {
  switch (c.of.what) {
    case op::poll:
    case op::ppoll: return call_poll(c);
    case op::select:
    case op::pselect: return call_select(c);
    case op::epoll_create: {
      const auto fd = static_cast<int>(c.make([] { return ::epoll_create1(EPOLL_CLOEXEC); }));
      c.book.set_slot(c.arg(0), fd);
      return c.book.opened(fd, fd_kind::epoll);
    }
    case op::epoll_ctl: {
      const int fd = c.book.fd_of(c.arg(1));
      epoll_event event{};
      event.events = static_cast<std::uint32_t>(c.arg(3));
      event.data.u64 = data_of(c, fd);
      c.make([&] { return ::epoll_ctl(c.fd(), c.arg(2), fd, &event); });
      return;
    }
    default: return call_epoll_wait(c);
  }
}

}  // namespace oracle
