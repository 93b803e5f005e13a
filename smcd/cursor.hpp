// SPDX-License-Identifier: Apache-2.0
#pragma once
// A cursor is a place in the data ring of a DMB, counted the way SMC-D counts:
// rounds (wrap) and offset in the round (count). Pure arithmetic; owns nothing.
// The ring is the DMB less its 32 byte control record, so its size is no power
// of two, and full and empty are told apart by the wrap.

#include <cstdint>
#include <optional>

namespace smcd {

// Invariant: count < ring size.
struct cursor {
  std::uint16_t wrap = 0;   // rounds completed, modulo 2^16
  std::uint32_t count = 0;  // offset in this round, bytes

  friend constexpr bool operator==(cursor, cursor) = default;
};

// Bytes from `behind` up to `ahead`. A peer wrote one of the two, so a count
// outside the ring, or more than a ring between them, is no answer at all.
[[nodiscard]] constexpr std::optional<std::uint32_t> distance(cursor behind, cursor ahead,
                                                              std::uint32_t size) noexcept {
  if (behind.count >= size || ahead.count >= size) return std::nullopt;
  const auto rounds = static_cast<std::uint16_t>(ahead.wrap - behind.wrap);
  if (rounds == 0 && ahead.count >= behind.count) return ahead.count - behind.count;
  if (rounds == 1 && ahead.count <= behind.count) return size - behind.count + ahead.count;
  return std::nullopt;
}

// How far an end got in a ring, counting all rounds since the beginning.
// Invariant: count < ring size.
struct place {
  std::uint64_t rounds = 0;  // less than 2^39
  std::uint32_t count = 0;   // less than 2^24

  friend constexpr bool operator==(place, place) = default;
};

// Requires n <= size.
[[nodiscard]] constexpr place advance(place at, std::uint32_t n, std::uint32_t size) noexcept {
  const std::uint32_t to_end = size - at.count;
  if (n < to_end) return {at.rounds, at.count + n};
  return {at.rounds + 1, n - to_end};
}

// Bytes before it.
[[nodiscard]] constexpr std::uint64_t bytes_before(place at, std::uint32_t size) noexcept {
  return at.rounds * size + at.count;
}

// As the other end is told of it.
[[nodiscard]] constexpr cursor cursor_of(place at) noexcept {
  return {static_cast<std::uint16_t>(at.rounds), at.count};
}

}  // namespace smcd
