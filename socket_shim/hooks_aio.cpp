// SPDX-License-Identifier: Apache-2.0
// Hooks: aio_*. libc's own threads read and write where no hook sees them: the
// connection goes back to TCP first.
#include <socket_shim/hook.hpp>

#include <socket_shim/memory.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <aio.h>

using shim::real_function;
using shim::self;

namespace {

void give_to_kernel(const aiocb* wanted) noexcept {
  if (wanted != nullptr && shim::is_readable(wanted, sizeof *wanted)) {
    self.give_to_kernel(wanted->aio_fildes, shim::process::after_leaving::is_over);
  }
}

}  // namespace

SHIM_HOOK int aio_read(aiocb* wanted) noexcept {
  static real_function<int(aiocb*)> next("aio_read64");
  give_to_kernel(wanted);
  return next(wanted);
}
SHIM_HOOK int aio_read64(aiocb64*) __attribute__((alias("aio_read")));

SHIM_HOOK int aio_write(aiocb* wanted) noexcept {
  static real_function<int(aiocb*)> next("aio_write64");
  give_to_kernel(wanted);
  return next(wanted);
}
SHIM_HOOK int aio_write64(aiocb64*) __attribute__((alias("aio_write")));

SHIM_HOOK int lio_listio(int mode, aiocb* const* list, int count, sigevent* tell) noexcept {
  static real_function<int(int, aiocb* const*, int, sigevent*)> next("lio_listio64");
  if (count > 0 && shim::is_readable(list, static_cast<std::size_t>(count) * sizeof *list)) {
    for (int i = 0; i < count; ++i) give_to_kernel(list[i]);
  }
  return next(mode, list, count, tell);
}
SHIM_HOOK int lio_listio64(int, aiocb64* const*, int, sigevent*)
    __attribute__((alias("lio_listio")));
