// SPDX-License-Identifier: Apache-2.0
#pragma once
// What some tests must know of how they were built.

namespace support {

// TSan runs a handler of SIGSEGV inside the atomic access that faulted, with its
// own locks held: the next atomic access of the handler waits for ever.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SUPPORT_TSAN 1
#endif
#endif
#if defined(SUPPORT_TSAN) || defined(__SANITIZE_THREAD__)
inline constexpr bool is_tsan = true;
#else
inline constexpr bool is_tsan = false;
#endif

}  // namespace support
