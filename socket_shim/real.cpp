// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/real.hpp>

#include <dlfcn.h>

#include <cerrno>

namespace shim {

void* next_symbol(const char* name) noexcept {
  const int saved = errno;
  void* found = ::dlsym(RTLD_NEXT, name);
  errno = saved;
  return found;
}

constinit real_functions real;

}  // namespace shim
