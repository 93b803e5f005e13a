// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the CPU is told of memory that it will need.

namespace dibs {

// It will be written: a look at it alone would fetch the line, and the write once
// more. Any address.
inline void prepare_write(const void* at) noexcept {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 1);
#endif
}

}  // namespace dibs
