// SPDX-License-Identifier: Apache-2.0
// epoll: which streams are in which sets, and what the kernel knows of them.
#include <socket_shim/epoll.hpp>

#include <devices/chaos.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <sys/mman.h>

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

// What is told in another way than as long as it is true, to all.
constexpr std::uint32_t special = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE;

constinit member_arena members;

}  // namespace

member* member_behind(std::uint64_t data) noexcept { return members.at(data); }

void epoll_set::open(int epfd) noexcept {
  epfd_ = epfd;
  is_pinned_ = is_haunted_ = has_queue_ = has_deaf_ = waits_for_room_ = false;
  owner_ = user_ = self.pid();
  expect_kernel_news();
  if (sleeper_ == nullptr) sleeper_ = make_sleeper();
}

void epoll_set::close() noexcept {
  end_kick();
  for_each([this](member& known) noexcept { forget(known); });
  release_sleeper(sleeper_);
  sleeper_ = nullptr;
}

bool epoll_set::sends_by_memory(const member& of) noexcept {
  const smcd::connection& link = of.stream->link;
  return link.is_established() && link.sends_on() == smcd::lane::dmb;
}

// What the kernel has to watch for a member. Bytes and room in DMBs are not
// its business; OUT would be true all the time there. But to whoever asked for the
// edges of room, each byte that comes over TCP is one, and so is the peer's end.
std::uint32_t epoll_set::kernel_events(const member& of) noexcept {
  if (of.is_spent) return EPOLLET;
  std::uint32_t events = of.wanted & ~static_cast<std::uint32_t>(EPOLLONESHOT);
  if (sends_by_memory(of)) {
    const bool wants_edges = (events & (EPOLLET | EPOLLOUT)) == (EPOLLET | EPOLLOUT);
    if (wants_edges) events |= EPOLLRDHUP;
    if (wants_edges && of.stream->link.receives_on() == smcd::lane::tcp) return events;
    events &= ~any_room;
  }
  if (of.stream->link.is_returning()) events |= EPOLLOUT;
  return events;
}

// Programs ask for OUT and IN and take them back with every message. While that
// is on the DMB lane the kernel has nothing to say of it: what it watches for in
// vain stays until it tells of it. Edge-triggered programs want the new edge.
bool epoll_set::is_told_enough(const member& of) noexcept {
  constexpr std::uint32_t idle = EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
  const std::uint32_t events = kernel_events(of);
  if ((events & EPOLLET) != 0) return false;
  if (events == of.in_kernel) return true;
  return of.is_off_tcp && !of.is_spent && of.stream->link.sends_on() == smcd::lane::dmb &&
         (events & ~of.in_kernel) == 0 && (of.in_kernel & ~events & ~idle) == 0;
}

int epoll_set::tell_kernel(member& of, int operation) noexcept {
  epoll_event event{};
  event.events = kernel_events(of);
  event.data.u64 = reinterpret_cast<std::uint64_t>(&of);
  of.in_kernel = event.events;
  return real.epoll_ctl(epfd_, operation, of.fd, &event);
}

// Unless the registration is not ours to change now.
void epoll_set::tell_kernel_anew(member& known) noexcept {
  if (user_ != self.pid() || known.is_parked) return;
  static_cast<void>(tell_kernel(known, EPOLL_CTL_MOD));
}

// A child of fork that begins to use a set. Until then it leaves the kernel's
// alone: that is its parent's, too.
void epoll_set::take_over() noexcept {
  if (user_ == self.pid()) return;
  const dibs::lock_guard guard(lock_);
  // The threads that slept in the kernel are our parent's, and so is what wakes them.
  in_kernel_.store(0, std::memory_order_relaxed);
  end_kick();
  user_ = self.pid();
  for_each([this](member& known) noexcept {
    if (kernel_events(known) != known.in_kernel) {
      static_cast<void>(tell_kernel(known, EPOLL_CTL_MOD));
    }
  });
}

int epoll_set::add(endpoint& stream, int fd, const epoll_event& wanted) noexcept {
  take_over();
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
  count_.fetch_add(1, std::memory_order_relaxed);
  made->next_of_stream = stream.members.load(std::memory_order_relaxed);
  // The first member begins in step with its stream, others follow if it is not.
  if (made->next_of_stream == nullptr) stream.synced.store(state, std::memory_order_relaxed);
  stream.members.store(made, std::memory_order_release);
  note_lane(*made);
  expect_kernel_news();
  if (has_queue()) enter(*made);
  note_if_ready(*made);
  return 0;
}

void epoll_set::note_lane(member& of) noexcept {
  const smcd::connection& link = of.stream->link;
  const bool has_dmb = link.has_dmb();
  if (has_dmb && !of.has_dmb) {
    // [asleep] first access of the one who finds it.
    with_dmb_.fetch_add(1, std::memory_order_seq_cst);
    if (in_kernel_.load(std::memory_order_seq_cst) > 0) kick();
  } else if (of.has_dmb && !has_dmb) {
    with_dmb_.fetch_sub(1, std::memory_order_relaxed);
  }
  of.has_dmb = has_dmb;
  const bool is_off_tcp = link.is_established() && link.receives_on() == smcd::lane::dmb;
  if (is_off_tcp != of.is_off_tcp) is_off_tcp ? ++off_tcp_ : --off_tcp_;
  of.is_off_tcp = is_off_tcp;
}

int epoll_set::modify(member& known, const epoll_event& wanted) noexcept {
  take_over();
  const dibs::lock_guard guard(lock_);
  known.wanted = wanted.events;
  known.data = wanted.data;
  known.is_spent = false;
  note_if_ready(known);
  return is_told_enough(known) ? 0 : tell_kernel(known, EPOLL_CTL_MOD);
}

// Nobody sleeps on what the kernel has, and no other process has it.
bool epoll_set::may_park(const member& known) const noexcept {
  return known.is_off_tcp && (known.wanted & special) == 0 && !is_pinned_ && owner_ == self.pid() &&
         !self.has_forked() && waiting_.load(std::memory_order_relaxed) == 0 &&
         in_kernel_.load(std::memory_order_relaxed) == 0 && !dibs::chaos::one_in(8);
}

int epoll_set::remove(member& known) noexcept {
  const dibs::lock_guard guard(lock_);
  if (!may_park(known)) return unregister(known);
  known.is_parked = true;
  known.wanted = 0;
  known.next_parked = first_parked_;
  first_parked_ = &known;
  return 0;
}

bool epoll_set::readmit(member& known, const epoll_event& wanted) noexcept {
  const dibs::lock_guard guard(lock_);
  if (known.set != this || !known.is_parked) return false;
  unpark(known);
  if ((wanted.events & special) == 0 && modify(known, wanted) == 0) return true;
  static_cast<void>(unregister(known));
  return false;
}

void epoll_set::unpark(member& known) noexcept {
  member** link = &first_parked_;
  while (*link != &known) link = &(*link)->next_parked;
  *link = known.next_parked;
  known.is_parked = false;
}

void epoll_set::settle_parked() noexcept {
  const dibs::lock_guard guard(lock_);
  const int saved = errno;
  while (first_parked_ != nullptr) static_cast<void>(unregister(*first_parked_));
  errno = saved;
}

int epoll_set::unregister(member& known) noexcept {
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
    static_cast<void>(unregister(known));
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
  if (known.is_parked) unpark(known);
  if (known.is_pending) {
    member* before = nullptr;
    for (member* at = first_pending_; at != &known; at = at->next_pending) before = at;
    (before == nullptr ? first_pending_ : before->next_pending) = known.next_pending;
    if (last_pending_ == &known) last_pending_ = before;
  }
  if (known.has_dmb) with_dmb_.fetch_sub(1, std::memory_order_relaxed);
  if (known.is_off_tcp) --off_tcp_;
  count_.fetch_sub(1, std::memory_order_relaxed);
  members.give_back(&known);
}

// As the kernel does it: what has nothing to tell yet gets its place when it has.
void epoll_set::note_if_ready(member& known) noexcept {
  const int saved = errno;
  known.has_news = true;
  if (events_in_memory(known) != 0 || known.stream->link.is_half_shut() || waits_for_room_) {
    append(known);
    note_departure();
  }
  errno = saved;
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
    expect_kernel_news();
    note_news(known);
    if (!is_told_enough(known)) tell_kernel_anew(known);
    has_moved_ = true;
  }
  // A thread that sleeps on this set learns of it.
  known.stream->link.wake_waiters();
  errno = saved;
}

void epoll_set::follow_receiving(member& known) noexcept {
  const dibs::lock_guard guard(lock_);
  if (known.set != this) return;
  const int saved = errno;
  note_lane(known);
  if ((kernel_events(known) & EPOLLOUT & ~known.in_kernel) != 0) tell_kernel_anew(known);
  errno = saved;
}

// Sets that other processes share, and registrations that cannot be changed as
// the program would see them, stay with us.
void epoll_set::give_back_plain(member& known) noexcept {
  constexpr std::uint32_t ours = EPOLLONESHOT | EPOLLEXCLUSIVE;
  if (!known.stream->link.is_plain() || (known.wanted & ours) != 0 || owner_ != self.pid() ||
      self.has_forked()) {
    return;
  }
  const int saved = errno;
  epoll_event event{};
  event.events = known.wanted;
  event.data = known.data;
  if (real.epoll_ctl(epfd_, EPOLL_CTL_MOD, known.fd, &event) == 0) forget(known);
  errno = saved;
}

void epoll_set::pin_to_tcp() noexcept {
  if (is_pinned_) return;
  is_pinned_ = true;
  settle_parked();
  for_each([](member& known) noexcept {
    known.stream->link.stay_on_tcp(smcd::decline_code::option_unsupported);
  });
}

}  // namespace shim
