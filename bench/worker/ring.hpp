// SPDX-License-Identifier: Apache-2.0
#pragma once
// One direction of a bare connection through shared memory: one writer, one
// reader, who trust each other, never sleep and do nothing else. What is left
// is a memory copy and cache lines that move between two cores.

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace bench {

inline constexpr std::size_t ring_size = 256 * 1024;  // the default DMB of dibsock

// All zero is a fresh one. Positions count bytes and never go back.
struct ring {
  // Writer: the sender; [ring-written] data before the position.
  alignas(64) std::atomic<std::uint64_t> written;
  std::atomic<std::uint32_t> is_shut;
  // Writer: the receiver; [ring-read] the copy is done before the position.
  alignas(64) std::atomic<std::uint64_t> read;
  alignas(64) std::byte data[ring_size];
};

// Until the other side moves. On one CPU it can only move when it gets it.
inline void look_again(bool shares_cpu) noexcept {
  if (shares_cpu) {
    ::sched_yield();
    return;
  }
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Copies in pieces, so that the other side works on one while the next is
// under way.
inline constexpr std::size_t longest_piece = 32 * 1024;

// Long copies for a reader on another core go past the writer's cache: lines
// that must be fetched from there, one by one, are slower than memory itself.
inline void copy_in(std::byte* to, const std::byte* from, std::size_t n, bool shares_cpu) noexcept {
#if defined(__x86_64__)
  constexpr std::size_t worth_it = 8 * 1024;
  if (n >= worth_it && !shares_cpu) {
    const std::size_t head = -reinterpret_cast<std::uintptr_t>(to) % 64;
    std::memcpy(to, from, head);
    std::size_t at = head;
    for (; at + 16 <= n; at += 16) {
      const auto* part = reinterpret_cast<const __m128i*>(from + at);
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + at), _mm_loadu_si128(part));
    }
    std::memcpy(to + at, from + at, n - at);
    _mm_sfence();
    return;
  }
#endif
  std::memcpy(to, from, n);
}

class ring_writer {
 public:
  ring_writer(ring& to, bool shares_cpu) noexcept : ring_(&to), shares_cpu_(shares_cpu) {}

  void write(std::span<const std::byte> from) noexcept {
    while (!from.empty()) {
      const std::size_t room = ring_size - static_cast<std::size_t>(at_ - known_read_);
      const std::size_t place = at_ % ring_size;
      const std::size_t n = std::min({from.size(), room, ring_size - place, longest_piece});
      if (n == 0) {
        known_read_ = ring_->read.load(std::memory_order_acquire);  // [ring-read]
        if (at_ - known_read_ == ring_size) look_again(shares_cpu_);
        continue;
      }
      copy_in(ring_->data + place, from.data(), n, shares_cpu_);
      from = from.subspan(n);
      at_ += n;
      ring_->written.store(at_, std::memory_order_release);  // [ring-written]
    }
  }
  void shut_down() noexcept { ring_->is_shut.store(1, std::memory_order_release); }

 private:
  ring* ring_;
  bool shares_cpu_;
  std::uint64_t at_ = 0;
  std::uint64_t known_read_ = 0;
};

class ring_reader {
 public:
  ring_reader(ring& from, bool shares_cpu) noexcept : ring_(&from), shares_cpu_(shares_cpu) {}

  // 0: the writer shut down, and everything was read.
  [[nodiscard]] std::size_t read(std::span<std::byte> to) noexcept {
    while (known_written_ == at_) {
      const bool is_shut = ring_->is_shut.load(std::memory_order_acquire) != 0;
      known_written_ = ring_->written.load(std::memory_order_acquire);  // [ring-written]
      if (known_written_ != at_) break;
      if (is_shut) return 0;
      look_again(shares_cpu_);
    }
    const std::size_t place = at_ % ring_size;
    const std::size_t n = std::min({to.size(), static_cast<std::size_t>(known_written_ - at_),
                                    ring_size - place, longest_piece});
    std::memcpy(to.data(), ring_->data + place, n);
    at_ += n;
    // The writer wants to hear of room, not of every byte: its cache line would
    // move for each.
    if (at_ - told_ >= ring_size / 4) {
      told_ = at_;
      ring_->read.store(at_, std::memory_order_release);  // [ring-read]
    }
    return n;
  }

 private:
  ring* ring_;
  bool shares_cpu_;
  std::uint64_t at_ = 0;
  std::uint64_t known_written_ = 0;
  std::uint64_t told_ = 0;
};

}  // namespace bench
