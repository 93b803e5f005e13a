// SPDX-License-Identifier: Apache-2.0
#pragma once
// What wakes the streams of one execution context: an event queue with its
// bell, and a tick for what nobody announces. Both are awaited only while
// somebody waits, so that io_context::run() returns when all is done.

#include <devices/event_queue.hpp>
#include <transport/detail/link.hpp>
#include <transport/detail/process.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/system_executor.hpp>

#include <fcntl.h>

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
  // ring for it. `bells` is where the first one who waits awaits the bell.
  // Each join() is followed by a leave().
  [[nodiscard]] bool join(sleeper&, link& of, const boost::asio::any_io_executor& bells);
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

  void shutdown() override;
  void on_bell(std::uint64_t wait);
  void on_tick(std::uint64_t wait);

  // The mutex is held.
  [[nodiscard]] bool open(const boost::asio::any_io_executor&);
  void await_bell();
  void await_tick();

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
  std::vector<slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::atomic<int> spins_{0};
};

// ---- inline ----------------------------------------------------------------

inline bool wake_service::join(sleeper& who, link& of, const boost::asio::any_io_executor& bells) {
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
  ++entered_;
  queue_.arm();
  await_bell();
  return true;
}

inline void wake_service::leave(sleeper& who, link& of, bool was_entered) noexcept {
  const std::lock_guard lock(mutex_);
  if (is_shut_ || !was_entered) return;
  if (--slots_[who.slot_].entered == 0) {
    of.leave_waiter(queue_.word(static_cast<std::uint16_t>(who.slot_)));
  }
  if (--entered_ == 0) {
    queue_.disarm();
    bell_wait_ = 0;
    boost::system::error_code ignored;
    bell_->cancel(ignored);
  }
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

inline void wake_service::await_tick() {
  tick_wait_ = ++waits_;
  tick_->expires_after(tick_time);
  tick_->async_wait(boost::asio::bind_executor(
      boost::asio::system_executor(),
      [this, wait = tick_wait_](const boost::system::error_code&) { on_tick(wait); }));
}

inline void wake_service::on_bell(std::uint64_t wait) {
  sleepers woken;
  {
    const std::lock_guard lock(mutex_);
    if (is_shut_ || wait != bell_wait_) return;
    bell_wait_ = 0;
    // In this order: a bit that comes after it was looked for rings again.
    queue_.drain_bell();
    queue_.arm();
    await_bell();
    woken.reserve(slots_.size());
    queue_.take_bits([&](std::uint16_t bit) noexcept {
      if (bit >= slots_.size() || slots_[bit].entered == 0) return;
      if (auto who = slots_[bit].who->weak_from_this().lock()) woken.push_back(std::move(who));
    });
  }
  for (const auto& who : woken) who->on_bell();
}

inline void wake_service::on_tick(std::uint64_t wait) {
  sleepers woken;
  {
    const std::lock_guard lock(mutex_);
    if (is_shut_ || wait != tick_wait_) return;
    await_tick();
    for (const slot& each : slots_) {
      if (each.ticking == 0) continue;
      if (auto who = each.who->weak_from_this().lock()) woken.push_back(std::move(who));
    }
  }
  for (const auto& who : woken) who->on_tick();
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
