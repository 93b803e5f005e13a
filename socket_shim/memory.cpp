// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/memory.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace shim {
namespace {

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
  const std::uintptr_t from = (first << page_notes::page_bits) & ~mask;
  const std::uintptr_t end = ((last << page_notes::page_bits) | mask) + 1;
  const int code = can_ask() ? ask(from, end, is_writable) : 0;
  errno = saved;
  // EINVAL: not with these permissions.
  if (code == ENOMEM || code == EFAULT || code == EINVAL) return false;
  for (std::uintptr_t page = first; page <= last; ++page) {
    vouched_for.add(page, is_writable);
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

constinit page_notes vouched_for;

bool ask_for_memory(const void* at, std::size_t size, bool is_writable) noexcept {
  if (size == 0) return true;
  const auto begin = reinterpret_cast<std::uintptr_t>(at);
  constexpr std::uintptr_t end = page_notes::end_of_memory;
  if (begin >= end || size > end - begin) return false;
  const std::uintptr_t last = (begin + size - 1) >> page_notes::page_bits;
  for (std::uintptr_t page = begin >> page_notes::page_bits; page <= last; ++page) {
    if (!vouched_for.has(page, is_writable)) [[unlikely]]
      return look_up(page, last, is_writable);
  }
  return true;
}

bool is_readable(std::span<const iovec> list, std::size_t size) noexcept {
  return are_there(list, size, false);
}
bool is_writable(std::span<const iovec> list, std::size_t size) noexcept {
  return are_there(list, size, true);
}

void forget_pages() noexcept { vouched_for.forget(); }

}  // namespace shim
