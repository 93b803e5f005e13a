// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a thread may change without the others in mind, because there are none.
// Signal handlers of its own may still come between any two instructions, and so
// each of these is one instruction; but none that locks the bus, which costs as
// much as all else that a short message needs.

#include <sys/single_threaded.h>

#include <atomic>
#include <cstdint>

namespace dibs {

// No other thread of this process can call in meanwhile.
[[nodiscard]] inline bool is_alone() noexcept { return __libc_single_threaded != 0; }

// As fetch_add, for a word of this process's own.
inline std::uint32_t add(std::atomic<std::uint32_t>& at, std::uint32_t n) noexcept {
#if defined(__x86_64__)
  if (is_alone()) {
    asm volatile("xaddl %0, %1"
                 : "+r"(n), "+m"(reinterpret_cast<std::uint32_t&>(at))
                 :
                 : "memory", "cc");
    return n;
  }
#endif
  return at.fetch_add(n, std::memory_order_seq_cst);
}
inline std::uint32_t count_up(std::atomic<std::uint32_t>& at) noexcept { return add(at, 1); }
inline std::uint32_t count_down(std::atomic<std::uint32_t>& at) noexcept {
  return add(at, ~std::uint32_t{0});
}

// As compare_exchange_strong, relaxed. `is_alone`: this thread, and this process
// if the word is in shared memory.
inline bool replace(std::atomic<std::uint64_t>& at, std::uint64_t seen, std::uint64_t wanted,
                    [[maybe_unused]] bool is_alone) noexcept {
#if defined(__x86_64__)
  if (is_alone) {
    bool is_done = false;
    asm volatile("cmpxchgq %3, %1"
                 : "=@ccz"(is_done), "+m"(reinterpret_cast<std::uint64_t&>(at)), "+a"(seen)
                 : "r"(wanted)
                 : "memory");
    return is_done;
  }
#endif
  return at.compare_exchange_strong(seen, wanted, std::memory_order_relaxed);
}

}  // namespace dibs
