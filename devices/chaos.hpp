// SPDX-License-Identifier: Apache-2.0
#pragma once
// What may happen but seldom does, made to happen often: refusals of memory,
// tiny rings, early wake-ups, changes of lane, bad timing. For tests, in builds
// that have it compiled in (the CMake option DIBSOCK_CHAOS) and then only if
// the environment says DIBSOCK_CHAOS=seed. Elsewhere all this is the constant
// "no", and nothing of it is left in the program.
//
// A process draws its decisions from the seed and a counter: one thread that
// does the same things gets the same ones again.

#include <cstddef>
#include <cstdint>

#if defined(DIBSOCK_CHAOS)
#include <atomic>
#endif

namespace dibs::chaos {

// Rings of 96 bytes: size codes 9 to 15, which mean nothing elsewhere.
inline constexpr std::uint32_t min_dmb_size = 128;

#if defined(DIBSOCK_CHAOS)

namespace detail {
inline constexpr std::uint64_t unasked = 0;
inline constexpr std::uint64_t off = 1;
extern constinit std::atomic<std::uint64_t> seed;  // unasked, off, or what to draw from
[[nodiscard]] bool ask() noexcept;
void stall() noexcept;
}  // namespace detail

[[nodiscard]] inline bool is_on() noexcept {
  const std::uint64_t seed = detail::seed.load(std::memory_order_relaxed);
  return seed != detail::off && (seed != detail::unasked || detail::ask());
}
// A random number below n; 0 when off.
[[nodiscard]] std::uint32_t below(std::uint32_t n) noexcept;
// Once in n times, at random. Never when off.
[[nodiscard]] inline bool one_in(std::uint32_t n) noexcept { return is_on() && below(n) == 0; }
// Often less than n, but something; n itself when off.
[[nodiscard]] inline std::uint32_t at_most(std::uint32_t n) noexcept {
  return n > 1 && one_in(4) ? 1 + below(one_in(2) ? n : n < 8 ? n : 8) : n;
}
// Lets others come between what stands before and after it.
inline void stall() noexcept {
  if (is_on()) detail::stall();
}

#else

[[nodiscard]] constexpr bool is_on() noexcept { return false; }
[[nodiscard]] constexpr std::uint32_t below(std::uint32_t) noexcept { return 0; }
[[nodiscard]] constexpr bool one_in(std::uint32_t) noexcept { return false; }
[[nodiscard]] constexpr std::uint32_t at_most(std::uint32_t n) noexcept { return n; }
constexpr void stall() noexcept {}

#endif

}  // namespace dibs::chaos
