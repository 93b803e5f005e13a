// SPDX-License-Identifier: Apache-2.0
#pragma once
// Clocks: the time, and the CPU time that this process took.

#include <sys/resource.h>

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

// How much of a CPU this process used since the watch was made.
class cpu_watch {
 public:
  [[nodiscard]] double share() const noexcept {
    const double wall = static_cast<double>(now_ns() - since_ns_) / 1e9;
    return wall > 0 ? (cpu_seconds() - cpu_since_) / wall : 0;
  }

 private:
  static double cpu_seconds() noexcept {
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& of) {
      return static_cast<double>(of.tv_sec) + static_cast<double>(of.tv_usec) / 1e6;
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
  }

  std::uint64_t since_ns_ = now_ns();
  double cpu_since_ = cpu_seconds();
};

}  // namespace bench
