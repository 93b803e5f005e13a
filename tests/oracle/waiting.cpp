// SPDX-License-Identifier: Apache-2.0
// Calls that ask what is ready.
#include "player.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include <algorithm>
#include <map>
#include <vector>

namespace oracle {
namespace {

constexpr int overlapping_ms = 1500;
constexpr int alone_ms = 2;
constexpr int waits_to_hear_all = 10;

// When a full buffer takes bytes again is not TCP's to say: room is only asked
// for where there must be some.
bool has_certain_room(const call& c, int fd) {
  const int end = c.book.end_of(fd);
  return end < 0 ||
         c.book.unread(static_cast<int>(peer_of(static_cast<std::size_t>(end)))) <= certain_room;
}

// Nor whether an edge that was told twice is heard of before the one that the
// next step makes.
void await_next(call& c) {
  entry& next = c.in.log[c.number + 1];
  for (std::uint32_t at = next.at.load(); at == status::none || at == status::running;
       at = next.at.load()) {
    await_change(next.at, at, 100);
  }
}

// With a low mark TCP tells of fewer bytes when it is short of memory for more.
bool has_certain_input(const call& c, int fd) {
  const int end = c.book.end_of(fd);
  if (end < 0) return true;
  const end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  return of.low_mark <= 1 || !of.had_bulk;
}

bool have_certain_room(const call& c) {
  for (int fd = 3; fd < static_cast<int>(max_fds); ++fd) {
    if (!has_certain_room(c, fd)) return false;
  }
  return true;
}

// Nor when a FIN arrives behind bytes that find no window.
bool has_certain_end(const call& c, int end) {
  return end < 0 || end >= static_cast<int>(max_ends) || c.book.unread(end) <= determined_bytes;
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
    if (!has_certain_input(c, fds[i].fd)) {
      fds[i].events = static_cast<short>(fds[i].events & ~(POLLIN | POLLRDNORM));
    }
  }
  wait(c, c.arg(0), [&](int ms) {
    const timespec limit{ms / 1000, ms % 1000 * 1'000'000L};
    return c.of.what == op::poll ? ::poll(fds.data(), count, ms)
                                 : ::ppoll(fds.data(), count, &limit, nullptr);
  });
  if (c.log.value > 0) c.log.value = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!has_certain_end(c, c.book.end_of(fds[i].fd))) {
      fds[i].revents = static_cast<short>(fds[i].revents & ~(POLLRDHUP | POLLHUP));
    }
    if (fds[i].revents != 0 && c.log.value >= 0) ++c.log.value;
    c.note(fds[i].revents);
  }
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
    if ((events & POLLIN) != 0 && has_certain_input(c, fd)) FD_SET(fd, &asked[0]);
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

// The data of an entry: what the program chose, and for our own use the end it
// stands for, and whether it is edge-triggered.
constexpr std::uint64_t is_edge = std::uint64_t{1} << 40;
std::uint64_t data_of(const call& c, int fd) {
  const bool has_edges = (static_cast<std::uint32_t>(c.arg(3)) & EPOLLET) != 0;
  return (has_edges ? is_edge : 0) | static_cast<std::uint64_t>(c.book.end_of(fd) + 1) << 32 |
         static_cast<std::uint32_t>(c.arg(4));
}
int end_of_data(std::uint64_t data) { return static_cast<int>(data >> 32 & 0xFF) - 1; }

// Are these events true now?
bool is_true(const call& c, int end, std::uint32_t events) {
  for (int fd = 0; fd < static_cast<int>(max_fds); ++fd) {
    if (c.book.end_of(fd) != end) continue;
    pollfd one{fd, static_cast<short>(events), 0};
    ::poll(&one, 1, 0);
    return (static_cast<std::uint32_t>(one.revents) & events) == events;
  }
  return false;
}

// What is told of each entry of a set.
using told = std::map<std::uint64_t, std::uint32_t>;

// Neither the order of events is determined, nor how many calls it takes to hear
// of all that are ready, as long as every one of them is heard of soon.
void hear_all(call& c, int set, std::array<epoll_event, 8>& events, int most, told& found) {
  for (int quiet = 0; c.log.value > 0 && quiet < waits_to_hear_all; ++quiet) {
    for (std::int64_t i = 0; i < c.log.value; ++i) {
      const epoll_event& one = events[static_cast<std::size_t>(i)];
      if ((found[one.data.u64] & one.events) != one.events) quiet = 0;
      found[one.data.u64] |= one.events;
    }
    c.make([&] { return ::epoll_wait(set, events.data(), most, 0); });
  }
}

bool trickles(const call& c, int end) { return c.book.unread(end) > determined_bytes; }

// Less what is not determined.
std::uint32_t certain_events(const call& c, int end, std::uint64_t data, std::uint32_t events) {
  if (end < 0 || end >= static_cast<int>(max_ends)) return events;
  const auto at = static_cast<std::size_t>(end);
  if (c.book.unread(static_cast<int>(peer_of(at))) > certain_room) {
    events &= ~static_cast<std::uint32_t>(EPOLLOUT | EPOLLWRNORM);
  }
  if (!has_certain_end(c, end)) events &= ~static_cast<std::uint32_t>(EPOLLRDHUP | EPOLLHUP);
  // What finds a window later, the end of the stream as well, is an edge then, and
  // an edge tells all that is true.
  const bool is_late = (c.in.ends[at].trickles || trickles(c, end)) && (data & is_edge) != 0;
  return is_late ? events & EPOLLERR : events;
}

void call_epoll_wait(call& c) {
  std::array<epoll_event, 8> events{};
  const int most = std::min(c.arg(1), 8);
  const int set = c.fd();
  const auto one = [&](int ms) {
    return c.arg(3) == 0 ? ::epoll_wait(set, events.data(), most, ms)
                         : ::epoll_pwait(set, events.data(), most, ms, nullptr);
  };
  c.book.await_fin_acks();
  told found;
  c.is_offered = c.is_offered && have_certain_room(c) && next_step_tells(c);
  c.make([&] { return one(c.is_offered || c.arg(2) == 0 ? 0 : alone_ms); });
  const bool is_refused = c.log.value < 0;
  const int error = c.log.error;
  if (c.is_offered && !is_refused) {
    // An edge that is told twice is no reason not to sleep for the next step.
    const bool sleeps = c.log.value == 0;
    hear_all(c, set, events, most, found);
    c.overlap();
    if (sleeps) c.make([&] { return one(overlapping_ms); });
    hear_all(c, set, events, most, found);
    await_next(c);
    // A shutdown meanwhile is an edge when the peer's kernel says that it knows.
    c.book.await_fin_acks();
    c.make([&] { return one(0); });
  }
  hear_all(c, set, events, most, found);
  std::vector<std::int64_t> shown;
  for (const auto& [data, what] : found) {
    const int end = end_of_data(data);
    const std::uint32_t events_of_it = certain_events(c, end, data, what);
    if (events_of_it == 0) continue;
    // An edge that is told twice is no harm as long as it is true: compare().
    const bool is_again = (data & is_edge) != 0 && is_true(c, end, events_of_it);
    shown.push_back(static_cast<std::int64_t>((data & 0xFFFFFFFF) << 32 | events_of_it) |
                    (is_again ? true_edge : 0));
  }
  for (int fd = 3; fd < static_cast<int>(max_fds); ++fd) {
    const int end = c.book.end_of(fd);
    if (end >= 0) c.in.ends[static_cast<std::size_t>(end)].trickles = trickles(c, end);
  }
  std::sort(shown.begin(), shown.end());
  c.log.error = error;
  c.log.value = is_refused ? -1 : 0;
  c.log.extra_count = 0;
  for (const std::int64_t event : shown) c.note(event);
}

}  // namespace

void take_waiting_step(call& c) {
  switch (c.of.what) {
    case op::poll:
    case op::ppoll: return call_poll(c);
    case op::select:
    case op::pselect: return call_select(c);
    case op::epoll_create: {
      // A low mark is not seen by sets: such connections are on their way to TCP.
      if (c.in.has_low_marks) return c.skip();
      c.in.has_sets = true;
      const auto fd = static_cast<int>(c.make([] { return ::epoll_create1(EPOLL_CLOEXEC); }));
      c.book.set_slot(c.arg(0), fd);
      return c.book.opened(fd, fd_kind::epoll);
    }
    case op::epoll_ctl: {
      if (c.book.kind_of(c.fd()) == fd_kind::other) return c.skip();
      const int fd = c.book.fd_of(c.arg(1));
      epoll_event event{};
      event.events = static_cast<std::uint32_t>(c.arg(3));
      event.data.u64 = data_of(c, fd);
      c.make([&] { return ::epoll_ctl(c.fd(), c.arg(2), fd, &event); });
      return;
    }
    default:
      if (c.book.kind_of(c.fd()) == fd_kind::other) return c.skip();
      return call_epoll_wait(c);
  }
}

}  // namespace oracle
