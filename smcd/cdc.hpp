// SPDX-License-Identifier: Apache-2.0
#pragma once
// The control record (CDC) at the start of a DMB, written by the peer, and the
// data ring behind it. Layout of SMC-D; the owner of the DMB only reads.

#include <smcd/cursor.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace smcd::cdc {

// Producer flags: valid in the consumer cursor of a record.
inline constexpr std::uint8_t write_blocked = 0x80;  // the sender waits for room in this ring
inline constexpr std::uint8_t urgent_pending = 0x40;
inline constexpr std::uint8_t urgent_present = 0x20;
inline constexpr std::uint8_t update_requested = 0x10;
// Connection flags: the same.
inline constexpr std::uint8_t sending_done = 0x80;  // shutdown(WR)
inline constexpr std::uint8_t closed = 0x40;
inline constexpr std::uint8_t aborted = 0x20;

struct cursor_word {
  cursor at;
  std::uint8_t producer_flags = 0;
  std::uint8_t connection_flags = 0;

  friend constexpr bool operator==(cursor_word, cursor_word) = default;
};

// The eight bytes of a cursor as one host-endian number: wrap, count, flags.
[[nodiscard]] constexpr std::uint64_t pack(cursor_word word) noexcept {
  return std::uint64_t{word.at.wrap} | std::uint64_t{word.at.count} << 16 |
         std::uint64_t{word.producer_flags} << 48 | std::uint64_t{word.connection_flags} << 56;
}
[[nodiscard]] constexpr cursor_word unpack(std::uint64_t word) noexcept {
  return {{static_cast<std::uint16_t>(word), static_cast<std::uint32_t>(word >> 16)},
          static_cast<std::uint8_t>(word >> 48),
          static_cast<std::uint8_t>(word >> 56)};
}

[[nodiscard]] constexpr cursor cursor_of(std::uint64_t word) noexcept { return unpack(word).at; }

inline constexpr std::uint8_t record_type = 0xFE;

// Writer: the remote end; reader: the owner of the DMB.
struct record {
  std::uint8_t type;
  std::uint8_t reserved1[7];
  // How far the remote has written into this DMB. Published by [cdc-prod].
  std::atomic<std::uint64_t> producer;
  // How far the remote has read from its own DMB, and all flags. [cdc-cons].
  std::atomic<std::uint64_t> consumer;
  // Ours: the CPU that the remote last ran on, plus 1; 0 is unknown. Reserved
  // in SMC-D. It shares the cache line that moves anyway.
  std::atomic<std::uint32_t> cpu;
  std::uint32_t reserved2;
};
static_assert(sizeof(record) == 32 && offsetof(record, producer) == 8 &&
              offsetof(record, consumer) == 16);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace smcd::cdc
