// SPDX-License-Identifier: Apache-2.0
// epoll: threads that wait for a set, in the kernel and beside it.
#include <socket_shim/epoll.hpp>

#include <devices/bell.hpp>
#include <devices/chaos.hpp>
#include <devices/ticks.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <sys/eventfd.h>

namespace shim {
namespace {

// A kernel that carries no stream, or had nothing to tell for long, is asked in
// every so many turns only, as long as there are events at hand in memory.
constexpr std::uint32_t turns_per_kernel_look = 8;
// And one that had nothing just now is not asked again at once.
constexpr std::uint64_t short_silence = 20 * dibs::ticks_per_us;
constexpr std::uint64_t long_silence = 5'000'000 * dibs::ticks_per_us;

}  // namespace

// ---- threads that sleep in the kernel --------------------------------------

bool epoll_set::enter_kernel() noexcept {
  take_over();
  // [asleep] The sleeper counts itself in, then looks for members with a DMB; who
  // finds one does so and then looks for sleepers. One of the two sees the other.
  in_kernel_.fetch_add(1, std::memory_order_seq_cst);
  dibs::chaos::stall();
  if (with_dmb_.load(std::memory_order_seq_cst) == 0) return true;
  count_out_of_kernel();
  return false;
}

void epoll_set::count_out_of_kernel() noexcept {
  if (in_kernel_.fetch_sub(1, std::memory_order_seq_cst) != 1) return;
  const dibs::lock_guard guard(lock_);
  if (in_kernel_.load(std::memory_order_seq_cst) == 0) end_kick();
}

bool epoll_set::leave_kernel(epoll_event* to, int count, int& answer) noexcept {
  const int saved = errno;
  count_out_of_kernel();
  if (answer > 0) {
    turn now{to, count};
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
  if (kick_ >= 0 || user_ != self.pid()) return;
  const dibs::cancel_shield not_cancelled;
  const int saved = errno;
  kick_ = ::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
  if (kick_ >= 0) {
    kick_ = dibs::move_high(dibs::unique_fd(kick_)).release();
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
  // Before a child of fork takes the set over, its parent's threads need it there.
  if (user_ == self.pid()) {
    static_cast<void>(real.epoll_ctl(epfd_, EPOLL_CTL_DEL, kick_, &unused));
  }
  real.close(kick_);
  kick_ = -1;
  errno = saved;
}

void epoll_set::enter(member& known) noexcept {
  smcd::connection& link = known.stream->link;
  const bool was_deaf = known.is_deaf;
  known.is_deaf = !link.enter_waiter(sleeper_->queue().word(known.bit)) && link.has_dmb();
  if (!known.is_deaf) return;
  has_deaf_ = true;
  // Who sleeps until it rings must look by itself from now on.
  if (waiting_.load(std::memory_order_relaxed) > 0 && !was_deaf) sleeper_->queue().ring();
}

void epoll_set::open_queue() noexcept {
  if (has_queue()) return;
  const dibs::lock_guard guard(lock_);
  // One that is open without a bell is tried again.
  if (sleeper_ == nullptr || has_queue()) return;
  // A child of fork: who waited is not here.
  if (has_queue_.load(std::memory_order_relaxed)) {
    waiting_.store(0, std::memory_order_relaxed);
    is_spinning_.store(false, std::memory_order_relaxed);
  }
  has_queue_ = sleeper_->prepare();
  if (!has_queue_) return;
  for_each([this](member& known) noexcept {
    enter(known);
    note_news(known);
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

// A thread that is about to sleep in wait(), until it goes out of scope.
struct epoll_set::waiting {
  waiting(epoll_set& set, const turn& after) noexcept : in(set) {
    const dibs::lock_guard guard(in.lock_);
    in.settle_parked();
    in.waiting_.fetch_add(1, std::memory_order_relaxed);
    is_called = in.departures_.load(std::memory_order_relaxed) != after.departures;
    is_sure = in.has_queue() && !in.has_deaf_;
  }
  waiting(const waiting&) = delete;
  waiting& operator=(const waiting&) = delete;
  ~waiting() {
    const dibs::lock_guard guard(in.lock_);
    const bool is_last = in.waiting_.fetch_sub(1, std::memory_order_relaxed) == 1;
    // Whoever rang has disarmed it, and others may still sleep.
    if (in.has_queue()) is_last ? in.sleeper_->queue().disarm() : in.sleeper_->queue().arm();
  }
  static void roll_back(void* of) noexcept { static_cast<waiting*>(of)->~waiting(); }

  epoll_set& in;
  bool is_called;  // something was left behind since the caller looked
  bool is_sure;    // whatever happens rings
};

void epoll_set::expect_kernel_news() noexcept {
  kernel_news_.store(dibs::ticks(), std::memory_order_relaxed);
  silent_at_.store(0, std::memory_order_relaxed);
}

bool epoll_set::is_kernel_due() const noexcept {
  return dibs::has_passed(silent_at_.load(std::memory_order_relaxed), short_silence, dibs::ticks());
}

// False as ask_kernel(). Programs build on the order of events on one machine:
// who wrote to one connection and then to another finds the first told first.
// So memory is looked at, then the kernel, which therefore has all that was sent
// over TCP before; and that is told first. But neither may take all places for
// ever.
bool epoll_set::look(int epfd, turn& now, bool may_wait) noexcept {
  if (has_deaf_ || !has_queue()) enter_deaf();
  const bool is_memory_next = is_memory_next_.load(std::memory_order_relaxed);
  if (is_memory_next) is_memory_next_.store(false, std::memory_order_relaxed);
  bool is_silent = false;
  bool is_kernel_first = false;
  bool has_moved = false;
  {
    const dibs::lock_guard guard(lock_);
    begin(now);
    is_silent = !gather() || dibs::has_passed(kernel_news_.load(std::memory_order_relaxed),
                                              long_silence, dibs::ticks());
    is_kernel_first = (now.number % turns_per_kernel_look == 0 && is_kernel_due()) ||
                      !(is_silent || is_memory_next) || dibs::chaos::one_in(4);
    if (!is_kernel_first) has_moved = collect(now);
  }
  if (is_kernel_first) {
    if (!ask_kernel(epfd, now)) return false;
    is_memory_next_.store(now.done == now.count, std::memory_order_relaxed);
    const dibs::lock_guard guard(lock_);
    has_moved = collect(now);
  }
  if (has_moved ? now.done == now.count : now.done > 0 || is_kernel_first) return true;
  // Who may wait spins first, and finds out before it sleeps.
  const bool is_for_later = may_wait && is_silent && !has_moved && has_queue() && !is_kernel_due();
  return is_for_later || ask_kernel(epfd, now);
}

// Where others sleep already, or spin, one more would only take their CPU.
bool epoll_set::spin(const turn& after) noexcept {
  if (!has_queue() || waiting_.load(std::memory_order_relaxed) > 0 ||
      (!is_alone() && is_spinning_.exchange(true, std::memory_order_acquire))) {
    return false;
  }
  const auto found = [&, this]() noexcept {
    return sleeper_->queue().has_bits() ||
           departures_.load(std::memory_order_relaxed) != after.departures;
  };
  const auto shares_cpu = [this]() noexcept {
    return last_reported_ != nullptr && last_reported_->set == this &&
           last_reported_->stream->link.shares_cpu();
  };
  const bool is_found = sleeper_->spin().spin(longest_spin(), found, shares_cpu);
  is_spinning_.store(false, std::memory_order_release);
  return is_found;
}

// -1 if a signal ended it.
int epoll_set::sleep(int epfd, const turn& after, const deadline& until, const sigset_t* mask) {
  dibs::chaos::stall();
  if (spin(after)) return 0;
  waiting here(*this, after);
  if (here.is_called) return 0;
  bool has_bell = true;
  if (has_queue()) {
    const dibs::lock_guard guard(lock_);
    has_bell = sleeper_->prepare();
    sleeper_->queue().arm();
    if (sleeper_->queue().has_bits()) return 0;
  }
  deadline sleep_until = until;
  if (has_queue()) sleep_until = until.sooner_us(dibs::longest_sleep_us);
  if (!here.is_sure || !has_bell) sleep_until = until.sooner_us(unsure_us);
  if (waits_for_room_) sleep_until = sleep_until.sooner_us(smcd::config::own_patience_us + 100);
  pollfd fds[2] = {{epfd, POLLIN, 0}, {}};
  const int woken = sleep_on(has_queue() ? sleeper_ : nullptr, fds, 1, sleep_until, mask,
                             {waiting::roll_back, &here});
  if (woken > 0 && fds[0].revents != 0) expect_kernel_news();
  return woken;
}

// What this thread leaves behind is for others that sleep. The lock is held.
void epoll_set::note_departure() noexcept {
  if (is_alone() || !has_queue() || (first_pending_ == nullptr && !sleeper_->queue().has_bits())) {
    return;
  }
  // Or for those that are about to sleep.
  departures_.fetch_add(1, std::memory_order_relaxed);
  if (waiting_.load(std::memory_order_relaxed) > 0) sleeper_->queue().ring();
}

void epoll_set::pass_on() noexcept {
  if (is_alone()) return;
  const dibs::cancel_shield not_cancelled;
  const int saved = errno;
  const dibs::lock_guard guard(lock_);
  note_departure();
  errno = saved;
}

int epoll_set::wait(int epfd, epoll_event* to, int count, const deadline& until,
                    const sigset_t* mask) {
  const int saved = errno;
  take_over();
  open_queue();
  for (;;) {
    turn now{to, count};
    const bool was_kernel = wait_in_kernel(epfd, now, until, mask);
    if (now.done < 0) return -1;
    const bool is_over = until.is_over();
    if (!was_kernel && !look(epfd, now, !is_over)) return -1;
    if (now.done > 0 || is_over) {
      if (!now.is_passed_on) pass_on();
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

}  // namespace shim
