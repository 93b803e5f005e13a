// SPDX-License-Identifier: Apache-2.0
#pragma once
// The names of things on a fabric: which fabric, which device, which buffer.
// Distinct types, so that one is never passed where another is meant.

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>

namespace dibs {

// Identity of a device in its fabric: 128 random bits. All zero means "none".
struct gid {
  std::array<std::uint8_t, 16> bytes{};

  friend constexpr auto operator<=>(const gid&, const gid&) = default;
  [[nodiscard]] constexpr bool is_none() const noexcept { return *this == gid{}; }
};

// Which fabric; spoken as CHID in CLC messages. Values from 0xFF00 up are
// emulated fabrics, whose gids have 128 bits instead of 64.
struct fabric_id {
  std::uint16_t value = 0;

  friend constexpr auto operator<=>(fabric_id, fabric_id) = default;
  [[nodiscard]] constexpr bool is_emulated() const noexcept { return value >= 0xFF00; }
};

inline constexpr fabric_id loopback_fabric{0xFFFF};

// Key of a DMB on its fabric. Zero means "none".
struct dmb_token {
  std::uint64_t value = 0;

  friend constexpr auto operator<=>(dmb_token, dmb_token) = default;
  [[nodiscard]] constexpr bool is_none() const noexcept { return value == 0; }
};

// 32 lower-case hexadecimal digits and a terminating zero.
using gid_text = std::array<char, 33>;
[[nodiscard]] constexpr gid_text to_text(const gid& id) noexcept {
  constexpr char digits[] = "0123456789abcdef";
  gid_text text{};
  for (std::size_t i = 0; i < 16; ++i) {
    text[2 * i] = digits[id.bytes[i] >> 4];
    text[2 * i + 1] = digits[id.bytes[i] & 15];
  }
  return text;
}

// The inverse of to_text. Requires 32 readable characters; a character that
// is no lower-case hexadecimal digit gives the gid "none".
[[nodiscard]] constexpr gid gid_from_text(const char* text) noexcept {
  gid id{};
  for (std::size_t i = 0; i < 32; ++i) {
    const char c = text[i];
    unsigned digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<unsigned>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<unsigned>(c - 'a') + 10;
    } else {
      return gid{};
    }
    id.bytes[i / 2] = static_cast<std::uint8_t>(id.bytes[i / 2] * 16U + digit);
  }
  return id;
}

}  // namespace dibs
