// SPDX-License-Identifier: Apache-2.0
#pragma once
// What wakes the streams of one execution context: an event queue with its
// bell, and a tick for what nobody announces. Both are awaited only while
// somebody waits, so that io_context::run() returns when all is done.
//
// Peers ring only for a context that sleeps. While it is awake, and for as long
// after that as lately paid off, it looks at the queue in its turns.

#include <devices/event_queue.hpp>
#include <devices/spin.hpp>
#include <devices/ticks.hpp>
#include <transport/detail/link.hpp>
#include <transport/detail/process.hpp>
#include <transport/detail/turns.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/system_executor.hpp>

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace dibsock::detail {

// Whom the service wakes. Called on any thread of the context, without a lock.
class sleeper : public std::enable_shared_from_this<sleeper> {
 public:
  virtual void on_bell() = 0;
  virtual void on_tick() = 0;
  // From time to time, as long as anything happens in the context.
  virtual void on_rest() = 0;
  // The context goes away, and what waits with it.
  virtual void drop_waits() noexcept = 0;

 protected:
  ~sleeper() = default;
  // The service has a place for it, until it is released or the context ends.
  [[nodiscard]] bool is_known() const noexcept { return slot_ != no_slot; }

 private:
  friend class wake_service;
  static constexpr std::uint32_t no_slot = ~std::uint32_t{0};
  std::uint32_t slot_ = no_slot;  // place in the service, and bit in its queue
};

// Any thread. Lock order: a stream's side, then the service.
class wake_service final : public boost::asio::execution_context::service {
 public:
  using key_type = wake_service;
  static inline boost::asio::execution_context::id id;

  explicit wake_service(boost::asio::execution_context& owner) : service(owner) {}

  // An operation is about to wait for `of`. True: from now on the peer will
  // ring for it. `bells` is where the first one who waits awaits the bell; `in`
  // are the turns of the context, if they run the operation.
  // Each join() is followed by a leave().
  [[nodiscard]] bool join(sleeper&, link& of, const boost::asio::any_io_executor& bells, turns* in);
  void leave(sleeper&, link& of, bool was_entered) noexcept;
  // on_tick() every millisecond.
  void start_ticking(sleeper&);
  void stop_ticking(sleeper&) noexcept;
  // The sleeper goes away.
  void release(sleeper&) noexcept;

  // A spin in the context; false if there are enough of them. Those that share
  // their looks cost less.
  [[nodiscard]] bool begin_spin(bool shares_looks) noexcept {
    const int most = shares_looks ? most_shared_spins : most_spins;
    if (spins_.fetch_add(1, std::memory_order_relaxed) < most) return true;
    end_spin();
    return false;
  }
  void end_spin() noexcept { spins_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  static constexpr int most_spins = 4;
  static constexpr int most_shared_spins = 256;
  static constexpr std::chrono::milliseconds tick_time{1};

  struct slot {
    sleeper* who = nullptr;
    std::uint32_t entered = 0;  // waits that the peer rings for
    std::uint32_t ticking = 0;
  };
  using sleepers = std::vector<std::shared_ptr<sleeper>>;

  // Looks at the queue among the turns of the context.
  class watch final : public turn {
   public:
    explicit watch(wake_service& of) noexcept : of_(of) {}
    ~watch() = default;
    void begin(std::uint64_t budget, bool shares_cpu) noexcept {
      began_ = dibs::ticks();
      budget_ = budget;
      shares_cpu_ = shares_cpu;
    }
    [[nodiscard]] std::uint64_t age() const noexcept { return dibs::ticks() - began_; }

   private:
    void take_turn() override { of_.on_watch(); }
    bool is_due() noexcept override { return of_.queue_.has_bits() || age() >= budget_; }
    bool shares_cpu() noexcept override { return shares_cpu_; }
    void drop_turn() noexcept override {}

    wake_service& of_;
    std::uint64_t began_ = 0;  // ticks
    std::uint64_t budget_ = 0;
    bool shares_cpu_ = false;
  };
  // So long at least: less than it takes to ring.
  static constexpr std::uint64_t shortest_watch = 2 * dibs::ticks_per_us;

  void shutdown() override;
  void on_bell(std::uint64_t wait);
  void on_watch();
  void on_tick(std::uint64_t wait);

  // The mutex is held.
  [[nodiscard]] bool open(const boost::asio::any_io_executor&);
  void await_bell();
  void drop_bell() noexcept;
  void await_tick();
  // All who may rest now; mostly nobody.
  [[nodiscard]] sleepers due_for_rest();
  void begin_watch();
  [[nodiscard]] sleepers take_woken();
  void wake_all(sleepers);  // it is not

  std::mutex mutex_;
  bool is_shut_ = false;
  std::shared_ptr<smcd::stack> stack_;  // before the queue, which is in its memory
  dibs::event_queue queue_;
  int owner_ = 0;  // the process whose queue it is: a forked child only forgets it
  std::optional<boost::asio::posix::stream_descriptor> bell_;
  std::optional<boost::asio::steady_timer> tick_;
  // Numbers of the waits under way, 0 for none: a cancelled one still calls.
  std::uint64_t waits_ = 0;
  std::uint64_t bell_wait_ = 0;
  std::uint64_t tick_wait_ = 0;
  std::uint32_t entered_ = 0;
  std::uint32_t ticking_ = 0;
  std::uint64_t rested_at_ = 0;  // ticks
  std::vector<slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::atomic<int> spins_{0};
  watch watch_{*this};
  dibs::spin_budget watch_budget_;
  turns* turns_ = nullptr;    // where the watch is, unless peers have to ring always:
  bool is_watching_ = false;  // somebody waits who is not run by turns
  bool shares_cpu_ = false;   // the peer of the last one who joined
  sleepers spare_;            // its memory
};

// ---- inline ----------------------------------------------------------------

inline bool wake_service::join(sleeper& who, link& of, const boost::asio::any_io_executor& bells,
                               turns* in) {
  const std::lock_guard lock(mutex_);
  if (is_shut_) return false;
  if (who.slot_ == sleeper::no_slot) {
    if (free_slots_.empty()) {
      slots_.emplace_back();
      free_slots_.reserve(slots_.capacity());  // so that release() cannot fail
      free_slots_.push_back(static_cast<std::uint32_t>(slots_.size() - 1));
    }
    who.slot_ = free_slots_.back();
    free_slots_.pop_back();
    slots_[who.slot_] = {&who, 0, 0};
  }
  if (!tick_) tick_.emplace(bells);
  if (!of.has_lanes() || who.slot_ >= dibs::queue_bits || !open(bells) ||
      !of.enter_waiter(queue_.word(static_cast<std::uint16_t>(who.slot_)))) {
    return false;
  }
  ++slots_[who.slot_].entered;
  if (++entered_ == 1) turns_ = in;
  if (in == nullptr) turns_ = nullptr;
  shares_cpu_ = of.is_smcd() && of.shares_cpu();
  turns_ != nullptr ? begin_watch() : queue_.arm();
  await_bell();
  return true;
}

inline void wake_service::leave(sleeper& who, link& of, bool was_entered) noexcept {
  const std::lock_guard lock(mutex_);
  if (is_shut_ || !was_entered) return;
  if (--slots_[who.slot_].entered == 0) {
    of.leave_waiter(queue_.word(static_cast<std::uint16_t>(who.slot_)));
  }
  // Under a watch somebody may join soon.
  if (--entered_ == 0 && !is_watching_) drop_bell();
}

inline void wake_service::start_ticking(sleeper& who) {
  const std::lock_guard lock(mutex_);
  if (is_shut_) return;
  ++slots_[who.slot_].ticking;
  ++ticking_;
  if (tick_wait_ == 0) await_tick();
}

inline void wake_service::stop_ticking(sleeper& who) noexcept {
  const std::lock_guard lock(mutex_);
  if (is_shut_) return;
  --slots_[who.slot_].ticking;
  if (--ticking_ == 0) {
    tick_wait_ = 0;
    tick_->cancel();
  }
}

inline void wake_service::release(sleeper& who) noexcept {
  const std::lock_guard lock(mutex_);
  if (is_shut_ || who.slot_ == sleeper::no_slot) return;
  slots_[who.slot_] = {};
  free_slots_.push_back(std::exchange(who.slot_, sleeper::no_slot));
}

inline bool wake_service::open(const boost::asio::any_io_executor& bells) {
  if (bell_) return true;
  if (!queue_.is_open()) {
    stack_ = this_stack();
    if (stack_ == nullptr) return false;
    auto opened = dibs::event_queue::open(stack_->queues());
    if (!opened) return false;
    queue_ = std::move(*opened);
    owner_ = this_process();
  }
  const int own = ::fcntl(queue_.bell(), F_DUPFD_CLOEXEC, 0);
  if (own < 0) return false;
  bell_.emplace(bells, own);
  return true;
}

// The handlers below run in whatever thread the event comes to, outside of any
// strand that `bells` may stand for.
inline void wake_service::await_bell() {
  if (bell_wait_ != 0) return;
  bell_wait_ = ++waits_;
  bell_->async_wait(
      boost::asio::posix::descriptor_base::wait_read,
      boost::asio::bind_executor(
          boost::asio::system_executor(),
          [this, wait = bell_wait_](const boost::system::error_code&) { on_bell(wait); }));
}

inline void wake_service::drop_bell() noexcept {
  queue_.disarm();
  bell_wait_ = 0;
  boost::system::error_code ignored;
  bell_->cancel(ignored);
}

inline void wake_service::await_tick() {
  tick_wait_ = ++waits_;
  tick_->expires_after(tick_time);
  tick_->async_wait(boost::asio::bind_executor(
      boost::asio::system_executor(),
      [this, wait = tick_wait_](const boost::system::error_code&) { on_tick(wait); }));
}

inline wake_service::sleepers wake_service::due_for_rest() {
  sleepers due;
  const std::uint64_t now = dibs::ticks();
  if (!dibs::has_passed(rested_at_, dibs::rest_time, now)) return due;
  rested_at_ = now;
  due.reserve(slots_.size());
  for (const slot& each : slots_) {
    if (each.who == nullptr) continue;
    if (auto who = each.who->weak_from_this().lock()) due.push_back(std::move(who));
  }
  return due;
}

inline void wake_service::on_bell(std::uint64_t wait) {
  sleepers woken;
  sleepers resting;
  {
    const std::lock_guard lock(mutex_);
    if (is_shut_ || wait != bell_wait_) return;
    bell_wait_ = 0;
    // In this order: a bit that comes after it was looked for rings again, or is
    // seen by the watch.
    queue_.drain_bell();
    turns_ != nullptr ? begin_watch() : queue_.arm();
    await_bell();
    woken = take_woken();
    resting = due_for_rest();
  }
  wake_all(std::move(woken));
  for (const auto& who : resting) who->on_rest();
}

inline void wake_service::begin_watch() {
  if (std::exchange(is_watching_, true)) return;
  queue_.disarm();
  watch_.begin(std::max(watch_budget_.next(longest_spin()), shortest_watch), shares_cpu_);
  turns_->spin(watch_);
}

inline void wake_service::on_watch() {
  sleepers woken;
  sleepers resting;
  {
    const std::lock_guard lock(mutex_);
    is_watching_ = false;
    if (is_shut_ || bell_wait_ == 0) return;
    if (entered_ == 0) return drop_bell();
    if (queue_.has_bits()) {
      watch_budget_.learn(longest_spin(), watch_.age());
    } else {
      watch_budget_.learn_vain(longest_spin());
      // [wake] From here on peers ring, unless there is something already.
      queue_.arm();
      if (!queue_.has_bits()) return;
    }
    if (turns_ != nullptr) begin_watch();
    woken = take_woken();
    resting = due_for_rest();
  }
  wake_all(std::move(woken));
  for (const auto& who : resting) who->on_rest();
}

inline wake_service::sleepers wake_service::take_woken() {
  sleepers woken = std::move(spare_);
  spare_.clear();
  woken.reserve(slots_.size());
  queue_.take_bits([&](std::uint16_t bit) noexcept {
    if (bit >= slots_.size() || slots_[bit].entered == 0) return;
    if (auto who = slots_[bit].who->weak_from_this().lock()) woken.push_back(std::move(who));
  });
  return woken;
}

inline void wake_service::wake_all(sleepers woken) {
  for (const auto& who : woken) who->on_bell();
  woken.clear();
  const std::lock_guard lock(mutex_);
  spare_ = std::move(woken);
}

inline void wake_service::on_tick(std::uint64_t wait) {
  sleepers woken;
  sleepers resting;
  {
    const std::lock_guard lock(mutex_);
    if (is_shut_ || wait != tick_wait_) return;
    await_tick();
    for (const slot& each : slots_) {
      if (each.ticking == 0) continue;
      if (auto who = each.who->weak_from_this().lock()) woken.push_back(std::move(who));
    }
    resting = due_for_rest();
  }
  for (const auto& who : woken) who->on_tick();
  for (const auto& who : resting) who->on_rest();
}

inline void wake_service::shutdown() {
  sleepers all;
  {
    const std::lock_guard lock(mutex_);
    is_shut_ = true;
    for (const slot& each : slots_) {
      if (each.who == nullptr) continue;
      each.who->slot_ = sleeper::no_slot;
      if (auto who = each.who->weak_from_this().lock()) all.push_back(std::move(who));
    }
    slots_.clear();
    bell_.reset();
    tick_.reset();
    if (owner_ == this_process()) {
      queue_.close();
    } else {
      queue_.abandon();
    }
  }
  for (const auto& who : all) who->drop_waits();
}

}  // namespace dibsock::detail
