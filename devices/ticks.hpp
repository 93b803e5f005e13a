// SPDX-License-Identifier: Apache-2.0
#pragma once
// A cheap clock for spins and patience: rough, monotonic on one machine.

#include <cstdint>
#include <ctime>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace dibs {

#if defined(__x86_64__)
// Time stamp counters run at 2 to 4 GHz; what is measured in ticks may be off
// by that factor and nothing depends on it.
inline constexpr std::uint64_t ticks_per_us = 2500;
[[nodiscard]] inline std::uint64_t ticks() noexcept { return __rdtsc(); }
inline void relax() noexcept { _mm_pause(); }
#else
inline constexpr std::uint64_t ticks_per_us = 1000;
[[nodiscard]] inline std::uint64_t ticks() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}
inline void relax() noexcept {}
#endif

// Two CPUs' counters, or two threads, may disagree on what came first.
[[nodiscard]] inline bool has_passed(std::uint64_t since, std::uint64_t patience,
                                     std::uint64_t now) noexcept {
  return static_cast<std::int64_t>(now - since) > static_cast<std::int64_t>(patience);
}

}  // namespace dibs
