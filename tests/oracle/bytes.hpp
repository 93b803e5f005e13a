// SPDX-License-Identifier: Apache-2.0
#pragma once
// The bytes that programs send: each says whose it is, and which.

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace oracle {

inline std::uint8_t byte_of(std::size_t end, std::uint64_t at) {
  return static_cast<std::uint8_t>((at + (end + 1) * 0x1000003) * 0x9E3779B97F4A7C15 >> 40);
}
inline void fill(std::uint8_t* to, std::size_t size, std::size_t end, std::uint64_t at) {
  for (std::size_t i = 0; i < size; ++i) to[i] = byte_of(end, at + i);
}
// -1 if all are right.
inline std::int64_t first_wrong(const std::uint8_t* from, std::size_t size, std::size_t end,
                                std::uint64_t at) {
  for (std::size_t i = 0; i < size; ++i) {
    if (from[i] != byte_of(end, at + i)) return static_cast<std::int64_t>(i);
  }
  return -1;
}
inline std::uint64_t hash_of(const std::uint8_t* from, std::size_t size, std::uint64_t begin) {
  std::uint64_t hash = begin != 0 ? begin : 0xCBF29CE484222325;
  for (std::size_t i = 0; i < size; ++i) hash = (hash ^ from[i]) * 0x100000001B3;
  return hash;
}

// 1: nothing there. 2: not to be touched.
inline void* bad_pointer(int kind) {
  static void* const closed = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return kind == 1 ? nullptr : closed;
}

}  // namespace oracle
