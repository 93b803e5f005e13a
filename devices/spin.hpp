// SPDX-License-Identifier: Apache-2.0
#pragma once
// How long a waiter looks at memory before it sleeps in the kernel. A wake-up
// costs 25 µs each way, a cache line 0.1 µs, so spinning pays when the peer
// answers at once, and costs its whole length when it does not. Each waiter
// learns from what lately paid off.

#include <devices/chaos.hpp>
#include <devices/ticks.hpp>

#include <sched.h>

#include <algorithm>
#include <cstdint>

namespace dibs {

// Used by one thread at a time.
class spin_budget {
 public:
  // Calls found() until it says true or the budget of at most `longest` ticks
  // is used up. False: sleep. While is_peer_here() says that the peer waits for
  // this very CPU, it is given the CPU between two looks; both then stay
  // runnable, and the scheduler finds them a CPU each.
  template <class Found, class Here>
  [[nodiscard]] bool spin(std::uint64_t longest, Found found, Here is_peer_here) noexcept {
    if (found() || chaos::one_in(16)) return true;
    const std::uint64_t budget = next(longest);
    if (budget == 0) return false;
    const std::uint64_t start = ticks();
    std::uint64_t last = start;
    for (;;) {
      const bool yields = is_peer_here();
      if (yields) ::sched_yield();
      for (int i = 0; i < 8; ++i) {
        if (found()) {
          learn(longest, ticks() - start);
          return true;
        }
        relax();
      }
      const std::uint64_t now = ticks();
      if (!yields && now - last > preempted) {
        // Someone else needed this CPU while we did nothing useful on it.
        level_ = 0;
        skip_ = 64;
        return false;
      }
      if (now - start > budget) break;
      last = now;
    }
    learn_vain(longest);
    return false;
  }

  // The same in pieces, for who has other work between two looks: how long to
  // try, 0 for not at all; then whether that paid off.
  [[nodiscard]] std::uint64_t next(std::uint64_t longest) noexcept {
    if (chaos::one_in(2)) return 0;
    if (level_ == 0 && !is_new_) {
      // Lately in vain: a short try once in a while.
      if (skip_ > 0) {
        --skip_;
        return 0;
      }
      skip_ = 32;
      return longest / 4;
    }
    if (is_new_) {
      is_new_ = false;
      level_ = longest / 2;
    }
    return std::min(level_, longest);
  }
  void learn(std::uint64_t longest, std::uint64_t waited) noexcept {
    level_ = std::min(longest, std::max(level_, waited * 4 + longest / 8));
  }
  void learn_vain(std::uint64_t longest) noexcept {
    level_ /= 2;
    if (level_ < longest / 16) {
      level_ = 0;
      skip_ = 32;
    }
  }

 private:
  static constexpr std::uint64_t preempted = 80 * ticks_per_us;

  std::uint64_t level_ = 0;  // ticks
  std::uint32_t skip_ = 0;
  bool is_new_ = true;
};

}  // namespace dibs
