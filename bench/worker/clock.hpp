// SPDX-License-Identifier: Apache-2.0
#pragma once
// Clocks: the time, and the CPU time that this process took.

#include <sys/prctl.h>

#include <cstdint>
#include <ctime>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace bench {

[[nodiscard]] inline std::uint64_t now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// Ticks of the time stamp counter where there is one: reading it must not be
// a good part of a round trip through a ring.
#if defined(__x86_64__)
[[nodiscard]] inline std::uint64_t ticks() noexcept { return __rdtsc(); }
[[nodiscard]] inline double ns_per_tick() noexcept {
  static const double measured = [] {
    const std::uint64_t from_ns = now_ns();
    const std::uint64_t from = ticks();
    while (now_ns() - from_ns < 5'000'000) {
    }
    return static_cast<double>(now_ns() - from_ns) / static_cast<double>(ticks() - from);
  }();
  return measured;
}
#else
[[nodiscard]] inline std::uint64_t ticks() noexcept { return now_ns(); }
[[nodiscard]] inline double ns_per_tick() noexcept { return 1; }
#endif

[[nodiscard]] inline std::uint64_t ticks_of_ms(std::uint64_t ms) noexcept {
  return static_cast<std::uint64_t>(static_cast<double>(ms) * 1e6 / ns_per_tick());
}

// The timer's usual slack of 50 us would be most of a short sleep.
inline void sleep_us(std::uint64_t us) noexcept {
  static const int is_exact = ::prctl(PR_SET_TIMERSLACK, 1);
  static_cast<void>(is_exact);
  const timespec time{static_cast<time_t>(us / 1'000'000),
                      static_cast<long>(us % 1'000'000 * 1000)};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

// CPU time that this process has used.
[[nodiscard]] inline double cpu_seconds() noexcept {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

// How much of a CPU this process used since the watch was made.
class cpu_watch {
 public:
  [[nodiscard]] double share() const noexcept {
    const double wall = static_cast<double>(now_ns() - since_ns_) / 1e9;
    return wall > 0 ? (cpu_seconds() - cpu_since_) / wall : 0;
  }

 private:
  std::uint64_t since_ns_ = now_ns();
  double cpu_since_ = cpu_seconds();
};

}  // namespace bench
