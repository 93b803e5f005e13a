// SPDX-License-Identifier: Apache-2.0
// Hooks: memory that may be gone afterwards. See memory.hpp.
#include <socket_shim/hook.hpp>

#include <socket_shim/memory.hpp>
#include <socket_shim/real.hpp>

#include <cstddef>

SHIM_HOOK int munmap(void* at, std::size_t size) noexcept {
  static shim::real_function<int(void*, std::size_t)> next("munmap");
  const int answer = next(at, size);
  shim::forget_pages();
  return answer;
}

SHIM_HOOK int mprotect(void* at, std::size_t size, int protection) noexcept {
  static shim::real_function<int(void*, std::size_t, int)> next("mprotect");
  const int answer = next(at, size, protection);
  shim::forget_pages();
  return answer;
}
