// SPDX-License-Identifier: Apache-2.0
// epoll: what is told of the streams of a set, by memory and by the kernel.
#include <socket_shim/epoll.hpp>

#include <devices/chaos.hpp>
#include <devices/ticks.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <utility>

namespace shim {
namespace {

constexpr std::uint32_t always = EPOLLERR | EPOLLHUP;

// Events that the kernel is asked for at once.
constexpr std::size_t most_from_kernel = 64;

}  // namespace

// What a look at the rings in passing says, if that is all there is to say.
std::optional<std::uint32_t> epoll_set::glance(const member& of) noexcept {
  constexpr std::uint32_t in = EPOLLIN | EPOLLRDNORM;
  constexpr std::uint32_t out = EPOLLOUT | EPOLLWRNORM;
  if (of.is_spent || !of.is_off_tcp) return std::nullopt;
  const smcd::connection& link = of.stream->link;
  std::uint32_t events = 0;
  if ((of.wanted & in) != 0) {
    const smcd::glance seen = link.glance_at_input();
    if (seen == smcd::glance::unclear) return std::nullopt;
    if (seen == smcd::glance::yes) events |= in;
  }
  if ((of.wanted & out) != 0) {
    if (link.glance_at_room() != smcd::glance::yes) return std::nullopt;
    events |= out;
  }
  return events & of.wanted;
}

std::uint32_t epoll_set::events_in_memory(member& of) noexcept {
  if (const std::optional<std::uint32_t> seen = glance(of)) return *seen;
  smcd::connection& link = of.stream->link;
  sync_members(*of.stream);
  const bool is_edge = (of.wanted & EPOLLET) != 0;
  if (of.is_spent || !(is_edge ? link.has_dmb() : link.is_established())) return 0;
  std::uint32_t events = 0;
  tcp_socket tcp(of.fd);
  // In a DMB, or announced for it behind bytes on TCP that were told before:
  // that too is a new edge.
  if ((of.wanted & (EPOLLIN | EPOLLRDNORM)) != 0 &&
      (link.has_dmb_input(tcp) || (link.receives_on() == smcd::lane::tcp && link.input_hint() &&
                                   link.has_dmb_input_ahead(tcp)))) {
    events |= EPOLLIN | EPOLLRDNORM;
  }
  if ((of.wanted & (EPOLLOUT | EPOLLWRNORM)) != 0 && link.sends_on() == smcd::lane::dmb) {
    if (link.has_room(tcp, dibs::ticks())) {
      events |= EPOLLOUT | EPOLLWRNORM;
    } else {
      waits_for_room_ = true;
    }
  }
  // A look may have brought it back to TCP, where the kernel tells of room.
  sync_members(*of.stream);
  note_lane(of);
  return events & of.wanted;
}

std::uint32_t epoll_set::events_from_kernel(member& of, std::uint32_t events,
                                            bool may_be_clc) noexcept {
  if (of.is_spent) return 0;
  constexpr std::uint32_t input = EPOLLIN | EPOLLRDNORM;
  smcd::connection& link = of.stream->link;
  const bool is_talking = may_be_clc && !link.is_established();
  if (((events & input) != 0 || link.is_returning()) && may_be_clc &&
      !is_true_input(*of.stream, of.fd)) {
    events &= ~input;
  }
  events =
      static_cast<std::uint32_t>(whole_end(*of.stream, of.fd, static_cast<short>(kernel_events(of)),
                                           static_cast<short>(events), is_talking));
  sync_members(*of.stream);
  note_lane(of);
  bool is_news = (events & (EPOLLRDHUP | always)) != 0;
  // Room on TCP is not what it waits for, but an edge.
  if (sends_by_memory(of)) {
    is_news = is_news || (events & any_room) != 0;
    events &= ~any_room;
  }
  events &= of.wanted | always;
  // An edge tells all that is true, and so does what is told once.
  const bool is_whole = (of.wanted & (EPOLLET | EPOLLONESHOT)) != 0;
  return (events != 0 || is_news) && is_whole ? events | events_in_memory(of) : events;
}

// What the kernel would say of a member that it need not tell of now.
std::uint32_t epoll_set::look_at_kernel(member& of) noexcept {
  pollfd ask{of.fd, static_cast<short>(kernel_events(of)), 0};
  if (real.poll(&ask, nfds_t{1}, 0) <= 0) return 0;
  return events_from_kernel(of, static_cast<std::uint32_t>(ask.revents),
                            !of.stream->link.is_tcp_only());
}

// An edge tells all that is true, and there is no second time; nor is there with
// EPOLLONESHOT. After a shutdown that may be more than what made the edge, which
// may have been read since.
bool epoll_set::is_kernel_to_add(const member& of, std::uint32_t events, bool has_news) noexcept {
  const smcd::connection& link = of.stream->link;
  if (events != 0 && (of.wanted & EPOLLONESHOT) != 0) return true;
  if ((of.wanted & EPOLLET) == 0 || !has_news) return false;
  return link.is_half_shut() ||
         (events != 0 && (of.wanted & EPOLLOUT) != 0 && link.sends_on() == smcd::lane::tcp);
}

// One entry for each stream and wait, however many looks found something.
void epoll_set::report(member& of, std::uint32_t events, turn& now) noexcept {
  if (of.turn == now.number) {
    now.to[of.place].events |= events;
    return;
  }
  of.turn = now.number;
  of.place = now.done;
  last_reported_ = &of;
  now.to[now.done].events = events;
  now.to[now.done++].data = of.data;
  if ((of.wanted & EPOLLONESHOT) != 0) {
    of.is_spent = true;
    static_cast<void>(tell_kernel(of, EPOLL_CTL_MOD));
  }
}

// The lock is held here and in what follows.
void epoll_set::begin(turn& now) noexcept {
  if (now.number != 0) return;
  if (++turns_ == 0) ++turns_;
  now.number = turns_;
  now.departures = departures_.load(std::memory_order_relaxed);
}

bool epoll_set::gather() noexcept {
  if (has_queue()) {
    sleeper_->queue().take_bits([this](std::uint16_t bit) noexcept {
      for (member* at = of_bit_[bit]; at != nullptr; at = at->next_of_bit) note_news(*at);
    });
  }
  bool is_on_tcp = off_tcp_ < count_.load(std::memory_order_relaxed);
  for (const member* at = first_pending_; at != nullptr && !is_on_tcp; at = at->next_pending) {
    is_on_tcp = at->stream->link.has_marks_ahead();
  }
  return is_on_tcp;
}

bool epoll_set::collect(turn& now) noexcept {
  waits_for_room_ = has_moved_ = false;
  member* const last = last_pending_;
  for (bool is_last = first_pending_ == nullptr; !is_last && now.done < now.count;) {
    member& at = *first_pending_;
    is_last = &at == last;
    first_pending_ = at.next_pending;
    if (first_pending_ == nullptr) last_pending_ = nullptr;
    at.is_pending = false;
    if (at.is_parked) continue;
    const bool has_news = std::exchange(at.has_news, false);
    std::uint32_t events = events_in_memory(at);
    if (is_kernel_to_add(at, events, has_news)) events |= look_at_kernel(at);
    const bool waits_for_room = (at.wanted & EPOLLOUT) != 0 && waits_for_room_;
    if (events != 0) report(at, events, now);
    // Level-triggered: true until it is looked at and found false. And patience
    // with a full ring ends without a bit.
    if ((events != 0 && (at.wanted & EPOLLET) == 0) || waits_for_room) append(at);
  }
  if (now.done > 0) note_departure();
  now.is_passed_on = now.done > 0;
  return has_moved_;
}

// False if the kernel refuses, for the reason in errno.
bool epoll_set::ask_kernel(int epfd, turn& now) noexcept {
  std::array<epoll_event, most_from_kernel> events;
  const int room = std::min(now.count - now.done, static_cast<int>(events.size()));
  const dibs::cancel_shield not_cancelled;
  const int found = real.epoll_wait(epfd, events.data(), room, 0);
  if (found < 0) return false;
  if (found == 0) silent_at_.store(dibs::ticks(), std::memory_order_relaxed);
  dibs::chaos::stall();
  take(std::span(events).first(static_cast<std::size_t>(found)), now);
  now.told = now.done;
  return true;
}

// A thread that is cancelled there is counted out, if it was counted in.
void epoll_set::leave_cancelled(void* set) noexcept {
  if (set != nullptr) static_cast<epoll_set*>(set)->count_out_of_kernel();
}

// Without a stream in memory only the kernel has something to tell; another thread
// that brings one there wakes us. False: it was not to be had.
bool epoll_set::wait_in_kernel(int epfd, turn& now, const deadline& until, const sigset_t* mask) {
  static std::atomic<bool> is_missing{false};  // epoll_pwait2, Linux 5.11
  if (with_dmb_.load(std::memory_order_relaxed) != 0 ||
      waiting_.load(std::memory_order_relaxed) != 0 || dibs::chaos::one_in(4) ||
      is_missing.load(std::memory_order_relaxed)) {
    return false;
  }
  const bool is_counted = !is_alone();
  if (is_counted && !enter_kernel()) return false;
  std::array<epoll_event, most_from_kernel> events;
  const timespec left = until.is_never() ? timespec{} : until.left();
  const int room = std::min(now.count, static_cast<int>(events.size()));
  int found = 0;
  pthread_cleanup_push(leave_cancelled, is_counted ? this : nullptr);
  found = until.is_never() ? real.epoll_pwait(epfd, events.data(), room, -1, mask)
                           : real.epoll_pwait2(epfd, events.data(), room, &left, mask);
  pthread_cleanup_pop(0);
  const int error = errno;
  if (is_counted) count_out_of_kernel();
  if (found < 0) {
    is_missing.store(error == ENOSYS, std::memory_order_relaxed);
    now.done = error == ENOSYS ? 0 : -1;
    errno = error;
    return error != ENOSYS;
  }
  take(std::span(events).first(static_cast<std::size_t>(found)), now);
  return true;
}

void epoll_set::take_one(const epoll_event& event, bool may_be_clc, turn& now) noexcept {
  member* known = member_behind(event.data.u64);
  if (known == nullptr && event.data.ptr != this) {
    epoll_event* const end = now.to + now.told;
    epoll_event* const again =
        std::find_if(now.to, end, [&](auto& told) { return told.data.u64 == event.data.u64; });
    if (again != end) return static_cast<void>(again->events |= event.events);
    now.to[now.done++] = event;
    return;
  }
  // Under the lock a member of this set, and its stream, cannot go away.
  const dibs::lock_guard guard(lock_);
  begin(now);
  if (known == nullptr) {
    // Who does not come in so long was carried out by a signal or by fork. Until
    // then the kernel tells of nothing but this, and others need the CPU.
    constexpr std::uint64_t longest_kick = 1'000'000 * dibs::ticks_per_us;
    if (dibs::has_passed(kicked_at_, longest_kick, dibs::ticks())) end_kick();
    ::sched_yield();
    return;
  }
  if (known->set != this) return;
  if (known->is_parked) return static_cast<void>(unregister(*known));
  const std::uint32_t asked = known->in_kernel;
  std::uint32_t wanted = events_from_kernel(*known, event.events, may_be_clc);
  // What is told whole, of a stream that came back to TCP since the kernel was told
  // what to watch for.
  if (wanted != 0 && (known->wanted & (EPOLLET | EPOLLONESHOT)) != 0 &&
      (kernel_events(*known) & known->wanted & ~asked) != 0) {
    wanted |= look_at_kernel(*known);
  }
  if (wanted != 0) report(*known, wanted, now);
  // It watched for more than it was to.
  if ((known->in_kernel & ~kernel_events(*known)) != 0) {
    static_cast<void>(tell_kernel(*known, EPOLL_CTL_MOD));
  }
  give_back_plain(*known);
}

bool epoll_set::may_be_clc(const epoll_event& event) noexcept {
  const member* known = member_behind(event.data.u64);
  const dibs::lock_guard guard(lock_);
  return known != nullptr && known->set == this && !known->stream->link.is_tcp_only();
}

void epoll_set::take(std::span<const epoll_event> events, turn& now) noexcept {
  if (!events.empty()) expect_kernel_news();
  // A handshake that ends for one member would do so unseen for another one of
  // the same socket: so all are looked at before.
  std::array<bool, most_from_kernel> clc{};
  for (std::size_t i = 0; i < events.size(); ++i) clc[i] = may_be_clc(events[i]);
  for (std::size_t i = 0; i < events.size(); ++i) take_one(events[i], clc[i], now);
}

}  // namespace shim
