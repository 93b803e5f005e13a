// SPDX-License-Identifier: Apache-2.0
// Hooks: calls that give out descriptors and are nothing to us otherwise. If one
// gives a number that we know, its socket was closed in a way that nobody saw.
#include <socket_shim/hook.hpp>

#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cstdarg>

using shim::real_function;
using shim::self;

namespace {

// Both numbers of a call like pipe().
int fresh_two(int answer, const int* ends) noexcept {
  if (answer == 0) {
    self.fresh(ends[0]);
    self.fresh(ends[1]);
  }
  return answer;
}

}  // namespace

// ---- files -----------------------------------------------------------------

SHIM_HOOK int open(const char* path, int flags, ...) {
  static real_function<int(const char*, int, ...)> next("open64");
  std::va_list list;
  va_start(list, flags);
  const auto mode = va_arg(list, unsigned);
  va_end(list);
  return self.fresh(next(path, flags, mode));
}
SHIM_HOOK int open64(const char*, int, ...) __attribute__((alias("open")));
SHIM_HOOK int __open(const char*, int, ...) __attribute__((alias("open")));
SHIM_HOOK int __open64(const char*, int, ...) __attribute__((alias("open")));

SHIM_HOOK int openat(int directory, const char* path, int flags, ...) {
  static real_function<int(int, const char*, int, ...)> next("openat64");
  std::va_list list;
  va_start(list, flags);
  const auto mode = va_arg(list, unsigned);
  va_end(list);
  return self.fresh(next(directory, path, flags, mode));
}
SHIM_HOOK int openat64(int, const char*, int, ...) __attribute__((alias("openat")));

// Fortified: they end the program where a mode is missing.
SHIM_HOOK int __open_2(const char* path, int flags) {
  static real_function<int(const char*, int)> next("__open_2");
  return self.fresh(next(path, flags));
}
SHIM_HOOK int __open64_2(const char*, int) __attribute__((alias("__open_2")));
SHIM_HOOK int __openat_2(int directory, const char* path, int flags) {
  static real_function<int(int, const char*, int)> next("__openat_2");
  return self.fresh(next(directory, path, flags));
}
SHIM_HOOK int __openat64_2(int, const char*, int) __attribute__((alias("__openat_2")));

SHIM_HOOK int creat(const char* path, mode_t mode) {
  static real_function<int(const char*, mode_t)> next("creat64");
  return self.fresh(next(path, mode));
}
SHIM_HOOK int creat64(const char*, mode_t) __attribute__((alias("creat")));

SHIM_HOOK int mkostemps(char* path, int suffix, int flags) {
  static real_function<int(char*, int, int)> next("mkostemps64");
  return self.fresh(next(path, suffix, flags));
}
SHIM_HOOK int mkostemps64(char*, int, int) __attribute__((alias("mkostemps")));
SHIM_HOOK int mkstemps(char* path, int suffix) { return mkostemps(path, suffix, 0); }
SHIM_HOOK int mkstemps64(char*, int) __attribute__((alias("mkstemps")));
SHIM_HOOK int mkostemp(char* path, int flags) { return mkostemps(path, 0, flags); }
SHIM_HOOK int mkostemp64(char*, int) __attribute__((alias("mkostemp")));
SHIM_HOOK int mkstemp(char* path) { return mkostemps(path, 0, 0); }
SHIM_HOOK int mkstemp64(char*) __attribute__((alias("mkstemp")));

SHIM_HOOK int shm_open(const char* name, int flags, mode_t mode) {
  static real_function<int(const char*, int, mode_t)> next("shm_open");
  return self.fresh(next(name, flags, mode));
}

SHIM_HOOK int memfd_create(const char* name, unsigned flags) noexcept {
  static real_function<int(const char*, unsigned)> next("memfd_create");
  return self.fresh(next(name, flags));
}

// ---- what is no file -------------------------------------------------------

SHIM_HOOK int socketpair(int domain, int type, int protocol, int* ends) noexcept {
  static real_function<int(int, int, int, int*)> next("socketpair");
  return fresh_two(next(domain, type, protocol, ends), ends);
}

SHIM_HOOK int pipe2(int* ends, int flags) noexcept {
  static real_function<int(int*, int)> next("pipe2");
  return fresh_two(next(ends, flags), ends);
}
SHIM_HOOK int pipe(int* ends) noexcept { return pipe2(ends, 0); }
SHIM_HOOK int __pipe(int*) __attribute__((alias("pipe")));

SHIM_HOOK int eventfd(unsigned value, int flags) noexcept {
  static real_function<int(unsigned, int)> next("eventfd");
  return self.fresh(next(value, flags));
}

SHIM_HOOK int timerfd_create(clockid_t clock, int flags) noexcept {
  static real_function<int(clockid_t, int)> next("timerfd_create");
  return self.fresh(next(clock, flags));
}

SHIM_HOOK int signalfd(int fd, const sigset_t* mask, int flags) noexcept {
  static real_function<int(int, const sigset_t*, int)> next("signalfd");
  const int made = next(fd, mask, flags);
  return made == fd ? made : self.fresh(made);
}

SHIM_HOOK int inotify_init1(int flags) noexcept {
  static real_function<int(int)> next("inotify_init1");
  return self.fresh(next(flags));
}
SHIM_HOOK int inotify_init() noexcept { return inotify_init1(0); }

// Of another process: perhaps a connection that it has on DMBs, and that is TCP
// here. Nobody can tell that process.
SHIM_HOOK int pidfd_getfd(int process, int fd, unsigned flags) noexcept {
  static real_function<int(int, int, unsigned)> next("pidfd_getfd");
  return self.fresh(next(process, fd, flags));
}

SHIM_HOOK int pidfd_open(pid_t process, unsigned flags) noexcept {
  static real_function<int(pid_t, unsigned)> next("pidfd_open");
  return self.fresh(next(process, flags));
}
