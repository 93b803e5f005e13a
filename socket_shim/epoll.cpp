// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/epoll.hpp>

#include <devices/chaos.hpp>
#include <devices/ticks.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>

namespace shim {
namespace {

// All members of the process lie in one piece of address space: so we can tell
// their addresses from the program's own data.
class member_arena {
 public:
  [[nodiscard]] member* take() noexcept {
    const dibs::lock_guard guard(lock_);
    if (guard.is_nested()) return nullptr;
    if (free_ != nullptr) {
      member* taken = free_;
      free_ = taken->next_free;
      *taken = member{};
      return taken;
    }
    if (first_ == nullptr) {
      void* memory = ::mmap(nullptr, capacity * sizeof(member), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) return nullptr;
      first_ = static_cast<member*>(memory);
    }
    return used_ < capacity ? new (&first_[used_++]) member : nullptr;
  }
  void give_back(member* what) noexcept {
    const dibs::lock_guard guard(lock_);
    what->set = nullptr;
    what->next_free = free_;
    free_ = what;
  }
  [[nodiscard]] member* at(std::uint64_t address) const noexcept {
    const auto first = reinterpret_cast<std::uint64_t>(first_);
    if (first_ == nullptr || address < first) return nullptr;
    const std::uint64_t offset = address - first;
    return offset % sizeof(member) == 0 && offset / sizeof(member) < used_
               ? &first_[offset / sizeof(member)]
               : nullptr;
  }

 private:
  static constexpr std::size_t capacity = 256 * 1024;
  dibs::shared_lock lock_;
  member* first_ = nullptr;
  member* free_ = nullptr;
  std::size_t used_ = 0;
};

constinit member_arena members;
constinit pool<epoll_set> sets;

constexpr std::uint32_t always = EPOLLERR | EPOLLHUP;

// With events at hand in memory, the kernel is asked in every so many turns:
// then first, because there may be more events than places for them.
constexpr std::uint32_t turns_per_kernel_look = 8;

// Events that the kernel is asked for at once.
constexpr std::size_t most_from_kernel = 64;

}  // namespace

// ---- membership ------------------------------------------------------------

void epoll_set::open(int epfd) noexcept {
  epfd_ = epfd;
  is_pinned_ = is_haunted_ = has_queue_ = has_deaf_ = waits_for_room_ = false;
  owner_ = self.pid();
  if (sleeper_ == nullptr) sleeper_ = make_sleeper();
}

void epoll_set::close() noexcept {
  end_kick();
  for_each([this](member& known) noexcept { forget(known); });
  release_sleeper(sleeper_);
  sleeper_ = nullptr;
}

template <class Visit>
void epoll_set::for_each(Visit visit) noexcept {
  if (!has_members()) return;
  for (member* chain : of_bit_) {
    while (chain != nullptr) {
      member& known = *chain;
      chain = chain->next_of_bit;
      visit(known);
    }
  }
}

// What the kernel has to watch for a member. Bytes and room in DMBs are not
// its business; OUT would be true all the time there.
std::uint32_t epoll_set::kernel_events(const member& of) noexcept {
  if (of.is_spent) return EPOLLET;
  std::uint32_t events = of.wanted & ~static_cast<std::uint32_t>(EPOLLONESHOT);
  if (of.stream->link.is_established() && of.stream->link.sends_on() == smcd::lane::dmb) {
    events &= ~static_cast<std::uint32_t>(EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
  }
  if (of.stream->link.is_returning()) events |= EPOLLOUT;
  return events;
}

int epoll_set::tell_kernel(member& of, int operation) noexcept {
  epoll_event event{};
  event.events = kernel_events(of);
  event.data.u64 = reinterpret_cast<std::uint64_t>(&of);
  // Programs ask for OUT and take it back with every write; on the DMB lane
  // that is nothing to the kernel. Edge-triggered ones want the new edge.
  if (operation == EPOLL_CTL_MOD && event.events == of.in_kernel && (event.events & EPOLLET) == 0) {
    return 0;
  }
  of.in_kernel = event.events;
  return real.epoll_ctl(epfd_, operation, of.fd, &event);
}

int epoll_set::add(endpoint& stream, int fd, const epoll_event& wanted) noexcept {
  member* made = members.take();
  if (made == nullptr) {
    errno = ENOMEM;
    return -1;
  }
  made->set = this;
  made->stream = &stream;
  made->fd = fd;
  made->wanted = wanted.events;
  made->data = wanted.data;
  const std::uint32_t state = lanes_of(stream);
  if (tell_kernel(*made, EPOLL_CTL_ADD) != 0) {
    members.give_back(made);
    return -1;
  }
  // The kernel refuses to modify exclusive registrations, which we must.
  if (is_pinned_ || (wanted.events & EPOLLEXCLUSIVE) != 0) {
    stream.link.stay_on_tcp(smcd::decline_code::option_unsupported);
  }
  const dibs::lock_guard guard(lock_);
  made->bit = next_bit_;
  next_bit_ = static_cast<std::uint16_t>((next_bit_ + 1) % dibs::queue_bits);
  made->next_of_bit = of_bit_[made->bit];
  of_bit_[made->bit] = made;
  // [asleep] first access of the one who adds.
  count_.fetch_add(1, std::memory_order_seq_cst);
  if (in_kernel_.load(std::memory_order_seq_cst) > 0) kick();
  made->next_of_stream = stream.members.load(std::memory_order_relaxed);
  // The first member begins in step with its stream, others follow if it is not.
  if (made->next_of_stream == nullptr) stream.synced.store(state, std::memory_order_relaxed);
  stream.members.store(made, std::memory_order_release);
  note_lane(*made);
  if (has_queue()) enter(*made);
  append(*made);
  return 0;
}

void epoll_set::note_lane(member& of) noexcept {
  const bool is_in_memory = of.stream->link.is_established();
  if (is_in_memory == of.is_in_memory) return;
  of.is_in_memory = is_in_memory;
  is_in_memory ? ++in_memory_ : --in_memory_;
}

int epoll_set::modify(member& known, const epoll_event& wanted) noexcept {
  const dibs::lock_guard guard(lock_);
  known.wanted = wanted.events;
  known.data = wanted.data;
  known.is_spent = false;
  append(known);
  return tell_kernel(known, EPOLL_CTL_MOD);
}

int epoll_set::remove(member& known) noexcept {
  const int fd = known.fd;
  forget(known);
  epoll_event unused{};
  return real.epoll_ctl(epfd_, EPOLL_CTL_DEL, fd, &unused);
}

void epoll_set::leave(member& known, bool is_shared) noexcept {
  if (owner_ != self.pid()) {
    // The registration is our parent's, too: events that come for us are dropped.
    is_haunted_ = true;
    forget(known);
  } else if (is_shared) {
    static_cast<void>(remove(known));
  } else {
    forget(known);
  }
}

void epoll_set::forget(member& known) noexcept {
  const dibs::lock_guard guard(lock_);
  if (has_queue()) known.stream->link.leave_waiter(sleeper_->queue().word(known.bit));
  for (member** link = &of_bit_[known.bit]; *link != nullptr; link = &(*link)->next_of_bit) {
    if (*link == &known) {
      *link = known.next_of_bit;
      break;
    }
  }
  std::atomic<member*>& first = known.stream->members;
  if (first.load(std::memory_order_relaxed) == &known) {
    first.store(known.next_of_stream, std::memory_order_relaxed);
  } else {
    for (member* at = first.load(std::memory_order_relaxed); at != nullptr;
         at = at->next_of_stream) {
      if (at->next_of_stream == &known) {
        at->next_of_stream = known.next_of_stream;
        break;
      }
    }
  }
  if (known.is_pending) {
    member* before = nullptr;
    for (member* at = first_pending_; at != &known; at = at->next_pending) before = at;
    (before == nullptr ? first_pending_ : before->next_pending) = known.next_pending;
    if (last_pending_ == &known) last_pending_ = before;
  }
  if (known.is_in_memory) --in_memory_;
  count_.fetch_sub(1, std::memory_order_relaxed);
  members.give_back(&known);
}

void epoll_set::append(member& known) noexcept {
  if (known.is_pending) return;
  known.is_pending = true;
  known.next_pending = nullptr;
  (first_pending_ == nullptr ? first_pending_ : last_pending_->next_pending) = &known;
  last_pending_ = &known;
}

void epoll_set::follow(member& known) noexcept {
  const int saved = errno;
  {
    const dibs::lock_guard guard(lock_);
    if (known.set != this) return;
    note_lane(known);
    if (has_queue()) enter(known);
    append(known);
    static_cast<void>(tell_kernel(known, EPOLL_CTL_MOD));
  }
  // A thread that sleeps on this set learns of it.
  known.stream->link.wake_waiters();
  errno = saved;
}

void epoll_set::pin_to_tcp() noexcept {
  if (is_pinned_) return;
  is_pinned_ = true;
  for_each([](member& known) noexcept {
    known.stream->link.stay_on_tcp(smcd::decline_code::option_unsupported);
  });
}

// ---- events ----------------------------------------------------------------

std::uint32_t epoll_set::events_in_memory(member& of) noexcept {
  smcd::connection& link = of.stream->link;
  sync_members(*of.stream);
  if (of.is_spent || !link.is_established()) return 0;
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
  return events & of.wanted;
}

std::uint32_t epoll_set::events_from_kernel(member& of, std::uint32_t events,
                                            bool may_be_clc) noexcept {
  if (of.is_spent) return 0;
  // Readable for bytes of the handshake alone is not readable.
  constexpr std::uint32_t input = EPOLLIN | EPOLLRDNORM;
  smcd::connection& link = of.stream->link;
  tcp_socket tcp(of.fd);
  if (((events & input) != 0 || link.is_returning()) && may_be_clc && !link.has_input(tcp)) {
    events &= ~input;
  }
  sync_members(*of.stream);
  events &= of.wanted | always;
  // An edge tells all that is true.
  return events != 0 && (of.wanted & EPOLLET) != 0 ? events | events_in_memory(of) : events;
}

// What the kernel would say of a member that it need not tell of now.
std::uint32_t epoll_set::look_at_kernel(member& of) noexcept {
  pollfd ask{of.fd, static_cast<short>(kernel_events(of)), 0};
  if (real.poll(&ask, nfds_t{1}, 0) <= 0) return 0;
  return events_from_kernel(of, static_cast<std::uint32_t>(ask.revents),
                            !of.stream->link.is_tcp_only());
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

epoll_set::turn epoll_set::begin_turn(epoll_event* to, int count) noexcept {
  const dibs::lock_guard guard(lock_);
  if (++turns_ == 0) ++turns_;
  return {turns_, to, count, 0, departures_};
}

void epoll_set::collect(turn& now) noexcept {
  const dibs::lock_guard guard(lock_);
  if (has_queue()) {
    sleeper_->queue().take_bits([this](std::uint16_t bit) noexcept {
      for (member* at = of_bit_[bit]; at != nullptr; at = at->next_of_bit) append(*at);
    });
  }
  waits_for_room_ = false;
  member* const last = last_pending_;
  for (bool is_last = first_pending_ == nullptr; !is_last && now.done < now.count;) {
    member& at = *first_pending_;
    is_last = &at == last;
    first_pending_ = at.next_pending;
    if (first_pending_ == nullptr) last_pending_ = nullptr;
    at.is_pending = false;
    std::uint32_t events = events_in_memory(at);
    // An edge tells all that is true, and there is no second time.
    if (events != 0 && ((at.wanted & EPOLLONESHOT) != 0 ||
                        ((at.wanted & EPOLLET) != 0 && at.stream->link.is_half_shut()))) {
      events |= look_at_kernel(at);
    }
    const bool waits_for_room = (at.wanted & EPOLLOUT) != 0 && waits_for_room_;
    if (events != 0) report(at, events, now);
    // Level-triggered: true until it is looked at and found false. And patience
    // with a full ring ends without a bit.
    if ((events != 0 && (at.wanted & EPOLLET) == 0) || waits_for_room) append(at);
  }
}

// False if the kernel refuses, for the reason in errno.
bool epoll_set::ask_kernel(int epfd, turn& now) noexcept {
  std::array<epoll_event, most_from_kernel> events;
  const int room = std::min(now.count - now.done, static_cast<int>(events.size()));
  const dibs::cancel_shield not_cancelled;
  const int found = real.epoll_wait(epfd, events.data(), room, 0);
  if (found < 0) return false;
  dibs::chaos::stall();
  take(std::span(events).first(static_cast<std::size_t>(found)), now);
  return true;
}

// Without a stream in memory, and without another thread that could bring one
// there, only the kernel has something to tell. False: it was not to be had.
bool epoll_set::wait_in_kernel(int epfd, turn& now, const deadline& until,
                               const sigset_t* mask) noexcept {
  static std::atomic<bool> is_missing{false};  // epoll_pwait2, Linux 5.11
  if (!is_alone() || in_memory_ != 0 || waiting_ != 0 || dibs::chaos::one_in(4) ||
      is_missing.load(std::memory_order_relaxed)) {
    return false;
  }
  std::array<epoll_event, most_from_kernel> events;
  const timespec left = until.is_never() ? timespec{} : until.left();
  const int room = std::min(now.count, static_cast<int>(events.size()));
  const int found =
      real.epoll_pwait2(epfd, events.data(), room, until.is_never() ? nullptr : &left, mask);
  if (found < 0) {
    is_missing.store(errno == ENOSYS, std::memory_order_relaxed);
    now.done = errno == ENOSYS ? 0 : -1;
    return errno != ENOSYS;
  }
  take(std::span(events).first(static_cast<std::size_t>(found)), now);
  return true;
}

void epoll_set::take_one(const epoll_event& event, bool may_be_clc, turn& now) noexcept {
  member* known = members.at(event.data.u64);
  if (known == nullptr && event.data.ptr != this) {
    now.to[now.done++] = event;
    return;
  }
  // Under the lock a member of this set, and its stream, cannot go away.
  const dibs::lock_guard guard(lock_);
  if (known == nullptr) {
    // Who does not come in so long was carried out by a signal or by fork. Until
    // then the kernel tells of nothing but this, and others need the CPU.
    constexpr std::uint64_t longest_kick = 1'000'000 * dibs::ticks_per_us;
    if (dibs::has_passed(kicked_at_, longest_kick, dibs::ticks())) end_kick();
    ::sched_yield();
    return;
  }
  if (known->set != this) return;
  const std::uint32_t wanted = events_from_kernel(*known, event.events, may_be_clc);
  if (wanted != 0) report(*known, wanted, now);
}

bool epoll_set::may_be_clc(const epoll_event& event) noexcept {
  const member* known = members.at(event.data.u64);
  const dibs::lock_guard guard(lock_);
  return known != nullptr && known->set == this && !known->stream->link.is_tcp_only();
}

void epoll_set::take(std::span<const epoll_event> events, turn& now) noexcept {
  // A handshake that ends for one member would do so unseen for another one of
  // the same socket: so all are looked at before.
  std::array<bool, most_from_kernel> clc{};
  for (std::size_t i = 0; i < events.size(); ++i) clc[i] = may_be_clc(events[i]);
  for (std::size_t i = 0; i < events.size(); ++i) take_one(events[i], clc[i], now);
}

// ---- threads that sleep in the kernel --------------------------------------

bool epoll_set::enter_kernel() noexcept {
  // [asleep] The sleeper counts itself in, then looks for members; who adds one
  // does so and then looks for sleepers. One of the two sees the other.
  in_kernel_.fetch_add(1, std::memory_order_seq_cst);
  dibs::chaos::stall();
  if (count_.load(std::memory_order_seq_cst) == 0) return true;
  int nothing = 0;
  static_cast<void>(leave_kernel(nullptr, 0, nothing));
  return false;
}

bool epoll_set::leave_kernel(epoll_event* to, int count, int& answer) noexcept {
  const int saved = errno;
  if (in_kernel_.fetch_sub(1, std::memory_order_seq_cst) == 1) {
    const dibs::lock_guard guard(lock_);
    if (in_kernel_.load(std::memory_order_seq_cst) == 0) end_kick();
  }
  if (answer > 0) {
    turn now = begin_turn(to, count);
    for (int i = 0; i < answer; ++i) {
      const epoll_event event = to[i];
      take({&event, 1}, now);
    }
    errno = saved;
    if (now.done == 0) return false;
    answer = now.done;
  }
  return true;
}

// The lock is held.
void epoll_set::kick() noexcept {
  if (kick_ >= 0) return;
  const dibs::cancel_shield not_cancelled;
  const int saved = errno;
  kick_ = ::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
  if (kick_ >= 0) {
    kick_ = self.hide(kick_);
    kicked_at_ = dibs::ticks();
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = this;
    static_cast<void>(real.epoll_ctl(epfd_, EPOLL_CTL_ADD, kick_, &event));
  }
  errno = saved;
}

void epoll_set::end_kick() noexcept {
  if (kick_ < 0) return;
  const dibs::cancel_shield not_cancelled;
  const int saved = errno;
  epoll_event unused{};
  static_cast<void>(real.epoll_ctl(epfd_, EPOLL_CTL_DEL, kick_, &unused));
  real.close(kick_);
  kick_ = -1;
  errno = saved;
}

void epoll_set::enter(member& known) noexcept {
  smcd::connection& link = known.stream->link;
  const bool was_deaf = known.is_deaf;
  known.is_deaf = !link.enter_waiter(sleeper_->queue().word(known.bit)) && link.is_established();
  if (!known.is_deaf) return;
  has_deaf_ = true;
  // Who sleeps until it rings must look by itself from now on.
  if (waiting_ > 0 && !was_deaf) sleeper_->queue().ring();
}

void epoll_set::open_queue() noexcept {
  const dibs::lock_guard guard(lock_);
  if (sleeper_ == nullptr || sleeper_->queue().is_open()) return;
  has_queue_ = sleeper_->prepare();
  if (!has_queue_) return;
  for_each([this](member& known) noexcept {
    enter(known);
    append(known);
  });
}

// No bit will ever be set for these.
void epoll_set::enter_deaf() noexcept {
  const dibs::lock_guard guard(lock_);
  has_deaf_ = false;
  for_each([this](member& known) noexcept {
    if (has_queue() && !known.is_deaf) return;
    if (has_queue()) enter(known);
    append(known);
  });
}

// A thread inside wait(), until it goes out of scope.
struct epoll_set::waiting {
  waiting(epoll_set& set, const turn& after) noexcept : in(set) {
    const dibs::lock_guard guard(in.lock_);
    is_alone = ++in.waiting_ == 1;
    is_called = in.departures_ != after.departures;
    is_sure = in.has_queue() && !in.has_deaf_;
  }
  waiting(const waiting&) = delete;
  waiting& operator=(const waiting&) = delete;
  ~waiting() {
    const dibs::lock_guard guard(in.lock_);
    --in.waiting_;
    // Whoever rang has disarmed it, and others may still sleep.
    if (in.has_queue()) {
      in.waiting_ == 0 ? in.sleeper_->queue().disarm() : in.sleeper_->queue().arm();
    }
  }
  static void roll_back(void* of) noexcept { static_cast<waiting*>(of)->~waiting(); }

  epoll_set& in;
  bool is_alone;   // nobody else waits
  bool is_called;  // something was left behind since the caller looked
  bool is_sure;    // whatever happens rings
};

// Memory, and the kernel now and then, or when memory has nothing. False as
// ask_kernel().
bool epoll_set::look(int epfd, turn& now) noexcept {
  if (has_deaf_ || !has_queue()) enter_deaf();
  const bool is_kernel_first = now.number % turns_per_kernel_look == 0 || dibs::chaos::one_in(4);
  if (is_kernel_first && !ask_kernel(epfd, now)) return false;
  collect(now);
  return now.done > 0 || is_kernel_first || ask_kernel(epfd, now);
}

// -1 if a signal ended it.
int epoll_set::sleep(int epfd, const turn& after, const deadline& until, const sigset_t* mask) {
  const auto found = [this]() noexcept { return has_queue() && sleeper_->queue().has_bits(); };
  dibs::chaos::stall();
  waiting here(*this, after);
  if (here.is_called) return 0;
  const auto shares_cpu = [this]() noexcept {
    return last_reported_ != nullptr && last_reported_->set == this &&
           last_reported_->stream->link.shares_cpu();
  };
  if (here.is_alone && has_queue() && sleeper_->spin().spin(longest_spin(), found, shares_cpu)) {
    return 0;
  }
  if (has_queue()) {
    const dibs::lock_guard guard(lock_);
    static_cast<void>(sleeper_->prepare());
    sleeper_->queue().arm();
  }
  if (found()) return 0;
  deadline sleep_until = until;
  if (!here.is_sure) sleep_until = until.sooner_us(unsure_us);
  if (waits_for_room_) sleep_until = sleep_until.sooner_us(smcd::config::own_patience_us + 100);
  pollfd fds[2] = {{epfd, POLLIN, 0}, {}};
  return sleep_on(has_queue() ? sleeper_ : nullptr, fds, 1, sleep_until, mask,
                  {waiting::roll_back, &here});
}

// What this thread leaves behind is for others that sleep.
void epoll_set::pass_on() noexcept {
  const dibs::cancel_shield not_cancelled;
  const int saved = errno;
  const dibs::lock_guard guard(lock_);
  if (has_queue() && (first_pending_ != nullptr || sleeper_->queue().has_bits())) {
    // Or for those that are about to sleep.
    ++departures_;
    if (waiting_ > 0) sleeper_->queue().ring();
  }
  errno = saved;
}

int epoll_set::wait(int epfd, epoll_event* to, int count, const deadline& until,
                    const sigset_t* mask) {
  const int saved = errno;
  open_queue();
  for (;;) {
    turn now = begin_turn(to, count);
    const bool was_kernel = wait_in_kernel(epfd, now, until, mask);
    if (now.done < 0 || (!was_kernel && !look(epfd, now))) return -1;
    if (now.done > 0 || until.is_over()) {
      pass_on();
      errno = saved;
      return now.done;
    }
    // The kernel told of a handshake alone, which may have gone on.
    if (was_kernel) continue;
    // epoll_wait is never restarted after a handler ran.
    if (sleep(epfd, now, until, mask) < 0) {
      pass_on();
      return -1;
    }
  }
}

// ---- sets and streams ------------------------------------------------------

epoll_set* set_of(int epfd) noexcept {
  // Two threads may come for the first time.
  static constinit dibs::shared_lock making;
  const dibs::shielded_guard guard(making);
  endpoint* known = self.find(epfd);
  if (known != nullptr && known->kind != endpoint::kind_of::epoll) return nullptr;
  if (known == nullptr) {
    known = self.make(endpoint::kind_of::epoll);
    if (known == nullptr) return nullptr;
    self.put(epfd, known);
  }
  if (known->set == nullptr) {
    epoll_set* made = sets.take();
    if (made != nullptr) made->open(epfd);
    known->set = made;
  }
  return known->set;
}

void note_set(int epfd) noexcept {
  const int saved = errno;
  if (self.is_self() && self.settings().is_enabled) {
    if (endpoint* made = self.make(endpoint::kind_of::epoll)) self.put(epfd, made);
  }
  errno = saved;
}

void close_set(epoll_set* set) noexcept {
  if (set == nullptr) return;
  set->close();
  sets.give_back(set);
}

void note_in_set(int fd) noexcept {
  const int saved = errno;
  if (self.is_self() && is_tcp(fd)) {
    if (endpoint* made = self.make(endpoint::kind_of::in_kernel_set)) self.put(fd, made);
  }
  errno = saved;
}

void sync_members_slow(endpoint& of, std::uint32_t state) noexcept {
  of.synced.store(state, std::memory_order_relaxed);
  for (member* at = of.members.load(std::memory_order_acquire); at != nullptr;) {
    member* next = at->next_of_stream;
    if (epoll_set* set = at->set) set->follow(*at);
    at = next;
  }
}

void leave_sets(endpoint& of) noexcept {
  while (member* at = of.members.load(std::memory_order_acquire)) {
    if (at->set == nullptr) break;
    at->set->forget(*at);
  }
}

void forget_descriptor(endpoint& of, int fd) noexcept {
  for (member* at = of.members.load(std::memory_order_acquire); at != nullptr;) {
    member* next = at->next_of_stream;
    const bool is_shared = of.descriptors.load(std::memory_order_relaxed) > 1 || self.has_forked();
    if (at->fd == fd && at->set != nullptr) at->set->leave(*at, is_shared);
    at = next;
  }
}

}  // namespace shim
