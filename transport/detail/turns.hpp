// SPDX-License-Identifier: Apache-2.0
#pragma once
// What one io_context has to do for its sockets, a turn at a time: operations
// that are finished and have to tell their handlers, and operations that spin.
// All of them share one entry in the queue of the context. The context asks the
// kernel for events between any two entries; what is ready at once is not worth
// that.

#include <devices/ticks.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <type_traits>
#include <utility>

namespace dibsock::detail {

// Belongs to the turns while it is there, otherwise to whoever runs it.
class turn {
 public:
  turn(const turn&) = delete;
  turn& operator=(const turn&) = delete;

 protected:
  turn() = default;
  ~turn() = default;

 private:
  friend class turns;

  // In a thread that runs the context, inside no function that a user called.
  virtual void take_turn() = 0;
  // One that spins: is it worth a turn? Called under the lock of the turns.
  [[nodiscard]] virtual bool is_due() noexcept { return true; }
  // Does its peer need this very CPU?
  [[nodiscard]] virtual bool shares_cpu() noexcept { return false; }
  // The context goes away.
  virtual void drop_turn() noexcept = 0;

  turn* next_turn_ = nullptr;
};

// Any thread. Lock order: the turns, then the side of a stream, which is only
// tried. Whatever is there has an entry in the queue of the context, so that
// other threads, and a run_one() inside a handler, find it.
class turns final : public boost::asio::execution_context::service {
 public:
  using key_type = turns;
  static inline boost::asio::execution_context::id id;

  explicit turns(boost::asio::execution_context& owner)
      : service(owner), context_(static_cast<boost::asio::io_context&>(owner)) {}

  [[nodiscard]] boost::asio::io_context& context() noexcept { return context_; }

  // After those that are there already, as post() does.
  void add(turn& what) { take(ready_, what); }
  // At once if this thread runs the context.
  void dispatch(turn& what) {
    context_.get_executor().running_in_this_thread() ? what.take_turn() : add(what);
  }
  // Gets a turn when it is due.
  void spin(turn& what) { take(spinning_, what); }

 private:
  // Then the context looks for other work.
  static constexpr int most_turns = 16;
  static constexpr std::uint64_t look_time = dibs::ticks_per_us;

  class queue {
   public:
    [[nodiscard]] bool is_empty() const noexcept { return first_ == nullptr; }
    [[nodiscard]] turn& front() const noexcept { return *first_; }
    void push(turn& what) noexcept {
      what.next_turn_ = nullptr;
      (is_empty() ? first_ : last_->next_turn_) = &what;
      last_ = &what;
      ++size_;
    }
    [[nodiscard]] turn* pop() noexcept {
      if (is_empty()) return nullptr;
      --size_;
      return std::exchange(first_, first_->next_turn_);
    }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

   private:
    turn* first_ = nullptr;
    turn* last_ = nullptr;
    std::size_t size_ = 0;
  };

  // The entry. One that comes late finds nothing to do.
  struct entry {
    turns* of;
    void operator()() const { of->run(); }
  };

  void shutdown() override;
  void take(queue& to, turn&);
  void run();
  // The mutex is held, and given up between two looks.
  [[nodiscard]] turn* next(std::unique_lock<std::mutex>&) noexcept;
  [[nodiscard]] turn* next_due() noexcept;
  // The mutex is held.
  void ensure_entry() {
    if (has_entry_ || (ready_.is_empty() && spinning_.is_empty())) return;
    boost::asio::post(context_.get_executor(), entry{this});
    has_entry_ = true;
  }

  boost::asio::io_context& context_;
  std::mutex mutex_;
  bool is_shut_ = false;
  bool has_entry_ = false;
  queue ready_;
  queue spinning_;
};

// The io_context of an executor that is nothing besides, as a strand would be;
// null for all others.
template <class Executor>
[[nodiscard]] boost::asio::io_context* plain_context(const Executor& executor) noexcept {
  using plain = boost::asio::io_context::executor_type;
  const plain* found = nullptr;
  if constexpr (std::is_same_v<Executor, plain>) {
    found = &executor;
  } else if constexpr (std::is_same_v<Executor, boost::asio::any_io_executor>) {
    found = executor.template target<plain>();
  }
  if (found == nullptr) return nullptr;
  return &boost::asio::query(*found, boost::asio::execution::context);
}

[[nodiscard]] inline turns* turns_of(const boost::asio::any_io_executor& executor) {
  boost::asio::io_context* const context = plain_context(executor);
  return context == nullptr ? nullptr : &boost::asio::use_service<turns>(*context);
}

// ---- inline ----------------------------------------------------------------

inline void turns::take(queue& to, turn& what) {
  {
    const std::lock_guard lock(mutex_);
    if (!is_shut_) {
      to.push(what);
      return ensure_entry();
    }
  }
  what.drop_turn();
}

inline void turns::run() {
  std::unique_lock lock(mutex_);
  has_entry_ = false;
  // Those that are always ready must not keep others from their turn.
  turn* now = next_due();
  for (int left = most_turns; left > 0 && !context_.stopped(); --left) {
    if (now == nullptr) now = next(lock);
    if (now == nullptr) break;
    // Its handler may wait for the others.
    ensure_entry();
    lock.unlock();
    std::exchange(now, nullptr)->take_turn();
    lock.lock();
  }
  if (now != nullptr) ready_.push(*now);
  ensure_entry();
}

inline turn* turns::next(std::unique_lock<std::mutex>& lock) noexcept {
  std::uint64_t began = 0;
  for (;;) {
    turn* found = ready_.pop();
    if (found == nullptr) found = next_due();
    if (found != nullptr || spinning_.is_empty()) return found;
    const std::uint64_t now = dibs::ticks();
    if (began == 0) began = now;
    if (now - began > look_time) return nullptr;
    const bool yields = spinning_.front().shares_cpu();
    lock.unlock();
    yields ? static_cast<void>(::sched_yield()) : dibs::relax();
    lock.lock();
  }
}

// In turn, so that all are looked at equally often.
inline turn* turns::next_due() noexcept {
  for (std::size_t left = spinning_.size(); left > 0; --left) {
    turn* const found = spinning_.pop();
    if (found->is_due()) return found;
    spinning_.push(*found);
  }
  return nullptr;
}

inline void turns::shutdown() {
  queue all[2];
  {
    const std::lock_guard lock(mutex_);
    is_shut_ = true;
    std::swap(all[0], ready_);
    std::swap(all[1], spinning_);
  }
  for (queue& each : all) {
    while (turn* const what = each.pop()) what->drop_turn();
  }
}

}  // namespace dibsock::detail
