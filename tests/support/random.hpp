// SPDX-License-Identifier: Apache-2.0
#pragma once
// Random numbers that a printed seed brings back, on every compiler.

#include <cstddef>
#include <cstdint>

namespace support {

class random {
 public:
  explicit random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t x = (state_ += 0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
  }
  // From 0 to n - 1; 0 if n is 0.
  std::size_t below(std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(next() % n); }
  std::size_t between(std::size_t low, std::size_t high) { return low + below(high - low + 1); }
  bool one_in(std::size_t n) { return below(n) == 0; }
  // Small numbers and large ones alike: uniform in the number of bits.
  std::size_t up_to(std::size_t most) {
    std::size_t bits = 0;
    while (bits < 63 && std::size_t{1} << bits <= most) ++bits;
    const std::size_t n = below(std::size_t{1} << below(bits + 1));
    return n > most ? most : n;
  }

 private:
  std::uint64_t state_;
};

}  // namespace support
