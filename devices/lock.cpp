// SPDX-License-Identifier: Apache-2.0
#include <devices/lock.hpp>

#include <devices/ticks.hpp>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace dibs {
namespace {

thread_local std::uint32_t cached_thread_number = 0;

constexpr int spins = 200;
constexpr long patience_ns = 20'000'000;  // then look whether the holder is still there

}  // namespace

std::uint32_t thread_number() noexcept {
  if (cached_thread_number == 0) [[unlikely]] {
    cached_thread_number = static_cast<std::uint32_t>(::gettid());
  }
  return cached_thread_number;
}

void reset_thread_number() noexcept { cached_thread_number = 0; }

shared_lock::hold shared_lock::acquire_slow(std::uint32_t self) noexcept {
  const int saved = errno;
  for (int spin = 0;; ++spin) {
    std::uint32_t seen = owner_.load(std::memory_order_relaxed);
    if ((seen & ~waiting) == self) {
      errno = saved;
      return hold::nested;
    }
    if (seen == 0) {
      // Once we slept, others may: keep the mark, so that they are woken.
      const std::uint32_t wanted = spin > spins ? self | waiting : self;
      if (owner_.compare_exchange_weak(seen, wanted, std::memory_order_acquire)) {
        errno = saved;
        return hold::outer;
      }
      continue;
    }
    if (spin <= spins) {
      relax();
      continue;
    }
    if ((seen & waiting) == 0 &&
        !owner_.compare_exchange_strong(seen, seen | waiting, std::memory_order_relaxed)) {
      continue;
    }
    const timespec patience{0, patience_ns};
    // Not FUTEX_PRIVATE: the other holder may be another process after fork.
    if (::syscall(SYS_futex, &owner_, FUTEX_WAIT, seen | waiting, &patience, nullptr, 0) != 0 &&
        errno == ETIMEDOUT && ::kill(static_cast<pid_t>(seen & ~waiting), 0) != 0 &&
        errno == ESRCH) {
      // Killed inside: what a lock guards here is published by its last store,
      // so a half-done operation left nothing behind.
      std::uint32_t dead = seen | waiting;
      owner_.compare_exchange_strong(dead, 0, std::memory_order_acquire);
    }
  }
}

void shared_lock::wake() noexcept {
  const int saved = errno;
  ::syscall(SYS_futex, &owner_, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  errno = saved;
}

signal_shield::signal_shield() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before_);
}

signal_shield::~signal_shield() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace dibs
