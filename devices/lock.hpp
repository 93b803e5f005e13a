// SPDX-License-Identifier: Apache-2.0
#pragma once
// A lock for shared memory that a signal handler may meet while its own thread
// holds it. It then is told so instead of waiting for itself.

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstdint>

namespace dibs {

// Number of the calling thread, cached. reset_thread_number() is for the child
// side of fork, whose only thread has a new one.
[[nodiscard]] std::uint32_t thread_number() noexcept;
void reset_thread_number() noexcept;

// All zero is unlocked. Works between processes that share the memory; the
// lock of a thread that was killed is taken over.
class shared_lock {
 public:
  enum class hold : std::uint8_t {
    outer,   // acquired
    nested,  // this very thread holds it already, further out on its stack
  };

  // `is_alone`: no other thread uses the lock, of whatever process. A handler of
  // the caller's own may come between the look and the store, and leaves the lock
  // as it found it.
  [[nodiscard]] hold acquire(bool is_alone = false) noexcept {
    const std::uint32_t self = thread_number();
    std::uint32_t holder = 0;
    if (is_alone && owner_.load(std::memory_order_relaxed) == 0) {
      owner_.store(self, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_acquire);
      return hold::outer;
    }
    if (owner_.compare_exchange_strong(holder, self, std::memory_order_acquire)) [[likely]] {
      return hold::outer;
    }
    return acquire_slow(self);
  }

  void release(hold how, bool is_alone = false) noexcept {
    if (how == hold::nested) return;
    if (is_alone && (owner_.load(std::memory_order_relaxed) & waiting) == 0) {
      owner_.store(0, std::memory_order_release);
      return;
    }
    if ((owner_.exchange(0, std::memory_order_release) & waiting) != 0) [[unlikely]] {
      wake();
    }
  }

 private:
  static constexpr std::uint32_t waiting = 0x80000000;

  hold acquire_slow(std::uint32_t self) noexcept;
  void wake() noexcept;

  std::atomic<std::uint32_t> owner_{0};  // thread number | waiting
};

class lock_guard {
 public:
  explicit lock_guard(shared_lock& lock, bool is_alone = false) noexcept
      : lock_(lock), how_(lock.acquire(is_alone)), is_alone_(is_alone) {}
  lock_guard(const lock_guard&) = delete;
  lock_guard& operator=(const lock_guard&) = delete;
  ~lock_guard() { lock_.release(how_, is_alone_); }

  [[nodiscard]] bool is_nested() const noexcept { return how_ == shared_lock::hold::nested; }

 private:
  shared_lock& lock_;
  shared_lock::hold how_;
  bool is_alone_;
};

// A thread that is cancelled goes on while it lives. Calls of libc that wait for
// nothing may be cancellation points all the same, and nothing that holds a lock
// may end at one.
class cancel_shield {
 public:
  cancel_shield() noexcept { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  cancel_shield(const cancel_shield&) = delete;
  cancel_shield& operator=(const cancel_shield&) = delete;
  ~cancel_shield() { ::pthread_setcancelstate(before_, nullptr); }

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

// Signals wait while it lives: no handler of this thread comes between, and
// none leaves by a jump.
class signal_shield {
 public:
  signal_shield() noexcept;
  signal_shield(const signal_shield&) = delete;
  signal_shield& operator=(const signal_shield&) = delete;
  ~signal_shield();

 private:
  cancel_shield not_cancelled_;
  sigset_t before_;
};

// For a lock that connections share.
class shielded_guard {
 public:
  explicit shielded_guard(shared_lock& lock) noexcept : guard_(lock) {}

 private:
  signal_shield quiet_;
  lock_guard guard_;
};

}  // namespace dibs
