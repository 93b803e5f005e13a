// SPDX-License-Identifier: Apache-2.0
#pragma once
// Numbers as they stand on the wire: big-endian bytes, aligned to one, that
// convert to and from integers only where load() or store() says so. Structs
// made of them have the layout of the message, without packing attributes.

#include <array>
#include <cassert>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace smcd {

template <std::unsigned_integral T>
class big_endian {
 public:
  constexpr big_endian() noexcept = default;
  constexpr explicit big_endian(T value) noexcept { store(value); }

  [[nodiscard]] constexpr T load() const noexcept {
    T value = 0;
    for (const std::uint8_t byte : bytes_) value = static_cast<T>(value << 8 | byte);
    return value;
  }

  constexpr void store(T value) noexcept {
    for (std::size_t i = sizeof(T); i-- > 0; value = static_cast<T>(value >> 8)) {
      bytes_[i] = static_cast<std::uint8_t>(value & 0xFF);
    }
  }

 private:
  std::array<std::uint8_t, sizeof(T)> bytes_{};
};

using be16 = big_endian<std::uint16_t>;
using be32 = big_endian<std::uint32_t>;
using be64 = big_endian<std::uint64_t>;

static_assert(sizeof(be16) == 2 && alignof(be16) == 1);
static_assert(sizeof(be32) == 4 && alignof(be32) == 1);
static_assert(sizeof(be64) == 8 && alignof(be64) == 1);

template <class T>
concept wire_layout = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
                      alignof(T) == 1;

// A copy of the T that stands at offset `at`; none of it is trusted yet.
// Requires at + sizeof(T) <= from.size().
template <wire_layout T>
[[nodiscard]] T load_at(std::span<const std::byte> from, std::size_t at) noexcept {
  assert(at <= from.size() && sizeof(T) <= from.size() - at);
  T value;
  std::memcpy(&value, from.data() + at, sizeof(T));
  return value;
}

// Requires at + sizeof(T) <= to.size().
template <wire_layout T>
void store_at(std::span<std::byte> to, std::size_t at, const T& value) noexcept {
  assert(at <= to.size() && sizeof(T) <= to.size() - at);
  std::memcpy(to.data() + at, &value, sizeof(T));
}

}  // namespace smcd
