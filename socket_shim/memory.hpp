// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whether memory that a program names is there. The kernel finds out while it
// copies and says EFAULT; we copy ourselves, and would crash. Pages that the
// kernel once vouched for are remembered until the program maps or protects
// anew, so that asking costs next to nothing.

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace shim {

// What the kernel vouched for. Any thread, any order: each note is true by itself.
class page_notes {
 public:
  static constexpr unsigned page_bits = 12;
  // Programs own less than that, also with five levels of page tables. A note has
  // no room for the number of a page beyond.
  static constexpr std::uintptr_t end_of_memory = std::uintptr_t{1} << 57;

  // Requires a page before end_of_memory.
  [[nodiscard]] bool has(std::uintptr_t page, bool is_writable) const noexcept {
    const std::uint64_t note = notes_[page % count].load(std::memory_order_relaxed);
    return (is_writable ? note : note | 1) == note_of(page, true);
  }
  void add(std::uintptr_t page, bool is_writable) noexcept {
    notes_[page % count].store(note_of(page, is_writable), std::memory_order_relaxed);
  }
  void forget() noexcept { round_.fetch_add(1, std::memory_order_relaxed); }

 private:
  static constexpr std::size_t count = 16 * 1024;  // a thousand connections have some pages each
  static constexpr unsigned round_bits = 17;

  // Number of the page, the round of forgetting that the note is of, and whether
  // the page may be written.
  [[nodiscard]] std::uint64_t note_of(std::uintptr_t page, bool is_writable) const noexcept {
    const std::uint64_t round =
        round_.load(std::memory_order_relaxed) & ((std::uint64_t{1} << round_bits) - 1);
    return (page << (round_bits + 1)) | (round << 1) | (is_writable ? 1 : 0);
  }

  std::array<std::atomic<std::uint64_t>, count> notes_{};
  std::atomic<std::uint64_t> round_{1};
};
extern constinit page_notes vouched_for;

// Of no bytes: true.
[[nodiscard]] bool ask_for_memory(const void* at, std::size_t size, bool is_writable) noexcept;
[[nodiscard]] inline bool is_there(const void* at, std::size_t size, bool is_writable) noexcept {
  const auto begin = reinterpret_cast<std::uintptr_t>(at);
  const std::uintptr_t page = begin >> page_notes::page_bits;
  if (begin < page_notes::end_of_memory && (begin + size - 1) >> page_notes::page_bits == page &&
      vouched_for.has(page, is_writable)) [[likely]] {
    return true;
  }
  return ask_for_memory(at, size, is_writable);
}
[[nodiscard]] inline bool is_readable(const void* at, std::size_t size) noexcept {
  return is_there(at, size, false);
}
[[nodiscard]] inline bool is_writable(const void* at, std::size_t size) noexcept {
  return is_there(at, size, true);
}

// The first `size` bytes of these buffers.
[[nodiscard]] bool is_readable(std::span<const iovec>, std::size_t size) noexcept;
[[nodiscard]] bool is_writable(std::span<const iovec>, std::size_t size) noexcept;

// After the program changed its mappings.
void forget_pages() noexcept;

}  // namespace shim
