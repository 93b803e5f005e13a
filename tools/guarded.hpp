// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reading mapped files of others. Whoever may truncate the file can make any
// access to the mapping a SIGBUS; here that is an answer instead of a crash.

#include <csetjmp>
#include <csignal>

namespace tools {

inline sigjmp_buf* guarded_return = nullptr;

// Calls read(). False if it was left in the middle; what it owned then leaks.
// One thread only. Not inlined, so that the caller's variables are in memory
// and not in registers when the jump comes.
template <class Read>
[[nodiscard, gnu::noinline]] bool read_guarded(Read read) noexcept {
  static_assert(noexcept(read()));
  sigjmp_buf here;
  struct sigaction ours {};
  struct sigaction before {};
  ours.sa_handler = [](int) { ::siglongjmp(*guarded_return, 1); };
  guarded_return = &here;
  ::sigaction(SIGBUS, &ours, &before);
  if (sigsetjmp(here, 1) != 0) {
    ::sigaction(SIGBUS, &before, nullptr);
    guarded_return = nullptr;
    return false;
  }
  read();
  ::sigaction(SIGBUS, &before, nullptr);
  guarded_return = nullptr;
  return true;
}

}  // namespace tools
