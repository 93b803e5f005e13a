// SPDX-License-Identifier: Apache-2.0
#pragma once
// Times in classes that are at most 1/128 of their value wide: percentiles of
// any number of measurements in constant memory.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace tools::perf {

class histogram {
 public:
  void add(std::uint64_t value) noexcept {
    ++classes_[class_of(value)];
    ++count_;
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
  }

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }
  [[nodiscard]] std::uint64_t max() const noexcept { return max_; }

  // The smallest value that a share `part` (0 to 1) of all do not exceed,
  // rounded up within its class; 0 without measurements.
  [[nodiscard]] std::uint64_t percentile(double part) const noexcept {
    const double rank = part * static_cast<double>(count_);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < classes_.size(); ++i) {
      seen += classes_[i];
      if (seen > 0 && static_cast<double>(seen) >= rank) return std::min(last_of(i), max_);
    }
    return max_;
  }

 private:
  static constexpr unsigned bits = 7;  // classes per power of two: 2^bits

  static constexpr std::size_t class_of(std::uint64_t value) noexcept {
    const auto width = static_cast<unsigned>(std::bit_width(value));
    if (width <= bits + 1) return value;
    const unsigned shift = width - bits - 1;
    return (std::size_t{shift} << bits) + static_cast<std::size_t>(value >> shift);
  }
  static constexpr std::uint64_t last_of(std::size_t index) noexcept {
    if (index < std::size_t{2} << bits) return index;
    const auto shift = static_cast<unsigned>((index >> bits) - 1);
    const std::uint64_t first = (index & ((std::size_t{1} << bits) - 1)) | std::size_t{1} << bits;
    return (first << shift) + ((std::uint64_t{1} << shift) - 1);
  }

  std::array<std::uint64_t, (64 - bits + 1) << bits> classes_{};
  std::uint64_t count_ = 0;
  std::uint64_t min_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t max_ = 0;
};

}  // namespace tools::perf
