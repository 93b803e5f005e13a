// SPDX-License-Identifier: Apache-2.0
#pragma once
// A DMB in pieces, each of which has memory or has none; a set of them is a
// 64-bit mask, bit i for piece i. Pure arithmetic.

#include <devices/device.hpp>
#include <smcd/cdc.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>

namespace smcd {

class pieces {
 public:
  static constexpr std::uint64_t all = ~std::uint64_t{0};

  constexpr pieces() noexcept = default;
  // Requires a power of two, not above dibs::max_dmb_size.
  explicit constexpr pieces(std::uint32_t dmb_size) noexcept
      : ring_size_(dmb_size - static_cast<std::uint32_t>(sizeof(cdc::record))),
        shift_(std::countr_zero(std::max(dmb_size / 64, dibs::reserved_size))) {}

  // Those of a new DMB that are sure to have memory.
  [[nodiscard]] constexpr std::uint64_t at_first() const noexcept {
    return no_piece() | (std::uint32_t{1} << shift_ <= dibs::reserved_size ? 1U : 0U);
  }
  // Bits that stand for no piece: these never lack memory, and are never given
  // back. All of them, if there is one piece only.
  [[nodiscard]] constexpr std::uint64_t no_piece() const noexcept {
    const std::uint32_t count = (ring_size_ + std::uint32_t{sizeof(cdc::record)}) >> shift_;
    return count <= 1 ? all : count == 64 ? 0 : all << count;
  }
  // Where n bytes of the ring lie from `at` on, around its end. Requires
  // 0 < n <= ring size.
  [[nodiscard]] constexpr std::uint64_t of_ring(std::uint32_t at, std::uint32_t n) const noexcept {
    const std::uint32_t straight = std::min(n, ring_size_ - at);
    return of_straight(at, straight) | (straight < n ? of_straight(0, n - straight) : 0);
  }
  // Where in the ring a piece begins: the first one does so behind the control
  // record, which is never given back for that reason.
  [[nodiscard]] constexpr std::uint32_t begin(int number) const noexcept {
    return number == 0 ? 0
                       : (static_cast<std::uint32_t>(number) << shift_) -
                             static_cast<std::uint32_t>(sizeof(cdc::record));
  }

 private:
  [[nodiscard]] constexpr std::uint64_t of_straight(std::uint32_t at,
                                                    std::uint32_t n) const noexcept {
    const std::uint32_t first = (at + std::uint32_t{sizeof(cdc::record)}) >> shift_;
    const std::uint32_t last = (at + n - 1 + std::uint32_t{sizeof(cdc::record)}) >> shift_;
    return all << first & all >> (63 - last);
  }

  std::uint32_t ring_size_ = 0;
  int shift_ = 0;
};

}  // namespace smcd
