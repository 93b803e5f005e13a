// SPDX-License-Identifier: Apache-2.0
#pragma once
// Copying between a program's buffers and the data ring of a DMB.

#include <smcd/cursor.hpp>

#include <sys/uio.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace smcd {

using buffers = std::span<const iovec>;

// A place in a list of buffers.
class buffer_walk {
 public:
  explicit buffer_walk(buffers list) noexcept : list_(list) {}

  // The rest of the buffer at this place, never empty unless all is done.
  [[nodiscard]] std::span<std::byte> here() noexcept {
    while (index_ < list_.size() && used_ == list_[index_].iov_len) {
      ++index_;
      used_ = 0;
    }
    if (index_ == list_.size()) return {};
    return {static_cast<std::byte*>(list_[index_].iov_base) + used_, list_[index_].iov_len - used_};
  }
  void skip(std::size_t n) noexcept { used_ += n; }  // n <= here().size()

 private:
  buffers list_;
  std::size_t index_ = 0;
  std::size_t used_ = 0;
};

[[nodiscard]] inline std::size_t total_size(buffers list) noexcept {
  std::size_t size = 0;
  for (const iovec& part : list) size += part.iov_len;
  return size;
}

// The first n bytes of a list of buffers; fewer if they lie in very many.
class first_bytes {
 public:
  first_bytes(buffers list, std::size_t n) noexcept : list_(list) {
    if (n >= total_size(list)) return;
    std::size_t count = 0;
    for (const iovec& part : list) {
      if (n == 0 || count == parts_.size()) break;
      const std::size_t size = std::min(n, part.iov_len);
      if (size == 0) continue;
      parts_[count++] = {part.iov_base, size};
      n -= size;
    }
    list_ = {parts_.data(), count};
  }
  first_bytes(const first_bytes&) = delete;
  first_bytes& operator=(const first_bytes&) = delete;
  [[nodiscard]] buffers list() const noexcept { return list_; }

 private:
  std::array<iovec, 64> parts_;
  buffers list_;
};

// From so many bytes on it pays to write past our caches when the reader runs
// on another CPU: its lines need not be fetched first and come from memory or
// the shared cache either way. Measured; below it the opposite is true.
inline constexpr std::size_t least_past_cache = 8 * 1024;

// memcpy with stores that bypass the caches. What follows is ordered behind it.
inline void copy_past_cache(std::byte* to, const std::byte* from, std::size_t n) noexcept {
#if defined(__x86_64__)
  const std::size_t head = (64 - reinterpret_cast<std::uintptr_t>(to) % 64) % 64;
  std::memcpy(to, from, head);
  std::size_t at = head;
  for (; at + 64 <= n; at += 64) {
    const auto* source = reinterpret_cast<const __m128i*>(from + at);
    auto* target = reinterpret_cast<__m128i*>(to + at);
    const __m128i a = _mm_loadu_si128(source);
    const __m128i b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2);
    const __m128i d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  std::memcpy(to + at, from + at, n - at);
  _mm_sfence();
#else
  std::memcpy(to, from, n);
#endif
}

// Long copies are published piece by piece: the other end works on one piece
// while we copy the next, and both find it in their caches.
inline constexpr std::uint32_t piece = 32 * 1024;

enum class copy_way { into_ring, out_of_ring };

// Copies exactly n bytes, from where the walk and `place` in the ring stand on.
// Requires n <= what the
// rest of the buffers and the ring hold.
template <copy_way way>
inline void copy_ring(std::span<std::byte> ring, std::size_t place, buffer_walk& walk,
                      std::size_t n, bool is_reader_elsewhere = false) noexcept {
  while (n > 0) {
    const std::span<std::byte> part = walk.here();
    const std::size_t size = std::min({n, part.size(), ring.size() - place});
    if constexpr (way == copy_way::into_ring) {
      if (is_reader_elsewhere && size >= least_past_cache) {
        copy_past_cache(ring.data() + place, part.data(), size);
      } else {
        std::memcpy(ring.data() + place, part.data(), size);
      }
    } else {
      std::memcpy(part.data(), ring.data() + place, size);
    }
    walk.skip(size);
    n -= size;
    place += size;
    if (place == ring.size()) place = 0;
  }
}

}  // namespace smcd
