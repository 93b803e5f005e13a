// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/memory.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>

namespace shim {
namespace {

constexpr unsigned page_bits = 12;
constexpr std::size_t page_notes = 16 * 1024;  // a thousand connections have some pages each

// A note: number of the page, the round of forgetting that it is of, and
// whether it may be written. Any thread, any order: each note is true by itself.
constinit std::array<std::atomic<std::uint64_t>, page_notes> notes{};
constinit std::atomic<std::uint64_t> round_now{1};
constexpr unsigned round_bits = 17;

std::uint64_t note_of(std::uintptr_t page, bool is_writable) noexcept {
  const std::uint64_t round =
      round_now.load(std::memory_order_relaxed) & ((std::uint64_t{1} << round_bits) - 1);
  return (page << (round_bits + 1)) | (round << 1) | (is_writable ? 1 : 0);
}

bool is_noted(std::uintptr_t page, bool is_writable) noexcept {
  const std::uint64_t note = notes[page % page_notes].load(std::memory_order_relaxed);
  return note == note_of(page, true) || (!is_writable && note == note_of(page, false));
}

int ask(std::uintptr_t first, std::uintptr_t end, bool is_writable) noexcept {
  return ::madvise(reinterpret_cast<void*>(first), end - first,
                   is_writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0
             ? 0
             : errno;
}

// Before Linux 5.14 nobody answers. Then all memory is believed to be there.
bool can_ask() noexcept {
  static std::atomic<int> state{0};  // 0 new, 1 yes, 2 no
  if (state.load(std::memory_order_relaxed) == 0) {
    const auto mask = static_cast<std::uintptr_t>(::getpagesize()) - 1;
    const auto known = reinterpret_cast<std::uintptr_t>(&state) & ~mask;
    state.store(ask(known, known + mask + 1, false) == 0 ? 1 : 2, std::memory_order_relaxed);
  }
  return state.load(std::memory_order_relaxed) == 1;
}

// Pages from first to last, by asking the kernel.
bool look_up(std::uintptr_t first, std::uintptr_t last, bool is_writable) noexcept {
  const int saved = errno;
  const auto mask = static_cast<std::uintptr_t>(::getpagesize()) - 1;
  const std::uintptr_t from = (first << page_bits) & ~mask;
  const std::uintptr_t end = ((last << page_bits) | mask) + 1;
  const int code = can_ask() ? ask(from, end, is_writable) : 0;
  errno = saved;
  // EINVAL: not with these permissions.
  if (code == ENOMEM || code == EFAULT || code == EINVAL) return false;
  for (std::uintptr_t page = first; page <= last; ++page) {
    notes[page % page_notes].store(note_of(page, is_writable), std::memory_order_relaxed);
  }
  return true;
}

bool is_there(const void* at, std::size_t size, bool is_writable) noexcept {
  if (size == 0) return true;
  const auto begin = reinterpret_cast<std::uintptr_t>(at);
  // Programs own the lower half of what there is.
  if (size > (std::uintptr_t{1} << 62) || begin >= (std::uintptr_t{1} << 62)) return false;
  const std::uintptr_t last = (begin + size - 1) >> page_bits;
  for (std::uintptr_t page = begin >> page_bits; page <= last; ++page) {
    if (!is_noted(page, is_writable)) [[unlikely]]
      return look_up(page, last, is_writable);
  }
  return true;
}

bool are_there(std::span<const iovec> list, std::size_t size, bool is_writable) noexcept {
  for (const iovec& part : list) {
    if (size == 0) break;
    const std::size_t n = std::min(size, part.iov_len);
    if (!is_there(part.iov_base, n, is_writable)) return false;
    size -= n;
  }
  return true;
}

}  // namespace

bool is_readable(const void* at, std::size_t size) noexcept { return is_there(at, size, false); }
bool is_writable(const void* at, std::size_t size) noexcept { return is_there(at, size, true); }

bool is_readable(std::span<const iovec> list, std::size_t size) noexcept {
  return are_there(list, size, false);
}
bool is_writable(std::span<const iovec> list, std::size_t size) noexcept {
  return are_there(list, size, true);
}

void forget_pages() noexcept { round_now.fetch_add(1, std::memory_order_relaxed); }

}  // namespace shim
