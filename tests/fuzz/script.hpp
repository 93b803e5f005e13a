// SPDX-License-Identifier: Apache-2.0
#pragma once
// An input of a fuzzer, read as what to do next.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace fuzz {

inline void expect(bool holds, int line = __builtin_LINE()) {
  if (holds) return;
  std::fprintf(stderr, "not so: what line %d expects\n", line);
  std::abort();
}

class script {
 public:
  script(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

  [[nodiscard]] bool is_over() const { return rest_.empty(); }
  std::span<const std::uint8_t> take(std::size_t n) {
    const auto taken = rest_.first(std::min(n, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  // Little-endian; zeros behind the end.
  template <class Number>
  Number number() {
    std::uint64_t value = 0;
    unsigned shift = 0;
    for (const std::uint8_t byte : take(sizeof(Number))) {
      value |= std::uint64_t{byte} << shift;
      shift += 8;
    }
    return static_cast<Number>(value);
  }
  std::uint8_t byte() { return number<std::uint8_t>(); }

 private:
  std::span<const std::uint8_t> rest_;
};

}  // namespace fuzz
