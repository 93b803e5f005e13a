// SPDX-License-Identifier: Apache-2.0
// Hooks: what libc reads, writes and closes past every hook: stdio, dprintf and
// the threads of aio_*.
#include <socket_shim/hook.hpp>

#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstring>

using shim::real;
using shim::real_function;
using shim::self;

namespace {

int fd_of(void* cookie) noexcept {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(cookie));
}

// A FILE over our calls. It answers fileno() as any other does.
FILE* open_over_hooks(int fd, const char* mode) noexcept {
  constexpr cookie_io_functions_t calls{
      [](void* of, char* to, std::size_t size) -> ssize_t { return ::read(fd_of(of), to, size); },
      [](void* of, const char* from, std::size_t size) -> ssize_t {
        const ssize_t sent = ::write(fd_of(of), from, size);
        return sent < 0 ? 0 : sent;  // what stdio takes for an error here
      },
      nullptr, [](void* of) -> int { return ::close(fd_of(of)); }};
  FILE* opened = ::fopencookie(reinterpret_cast<void*>(std::intptr_t{fd}), mode, calls);
  if (opened == nullptr) return nullptr;
  opened->_fileno = fd;
  if (std::strchr(mode, 'e') != nullptr) real.fcntl(fd, F_SETFD, FD_CLOEXEC);
  return opened;
}

// Made by open_over_hooks(): as other FILEs over cookies it knows no wide
// characters, but unlike them it has a descriptor.
bool is_over_hooks(const FILE& file) noexcept {
  const auto wide = reinterpret_cast<std::intptr_t>(file._wide_data);
  return file._fileno >= 0 && (wide == 0 || wide == -1);
}

int flags_of(const char* mode) noexcept {
  const bool is_both = std::strchr(mode, '+') != nullptr;
  int flags = is_both ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
  if (mode[0] != 'r') flags |= O_CREAT | (mode[0] == 'a' ? O_APPEND : O_TRUNC);
  if (std::strchr(mode, 'x') != nullptr) flags |= O_EXCL;
  return std::strchr(mode, 'e') != nullptr ? flags | O_CLOEXEC : flags;
}

// libc cannot put a file behind such a FILE. It stays what it is, over another
// descriptor of the same number; only seeking is lost.
FILE* reopen_over_hooks(const char* path, const char* mode, FILE* file) noexcept {
  constexpr int no_reads = 4;
  constexpr int no_writes = 8;
  const int fd = file->_fileno;
  const int flags = flags_of(mode);
  // A socket cannot be opened once more in another mode.
  const int made = path != nullptr ? ::open(path, flags, 0666) : -1;
  if (path == nullptr) errno = ENXIO;
  if (made < 0) {
    const int saved = errno;
    real.close(fd);
    file->_fileno = -1;
    errno = saved;
    return nullptr;
  }
  real.dup3(made, fd, flags & O_CLOEXEC);
  real.close(made);
  ::clearerr(file);
  file->_flags &= ~(no_reads | no_writes);
  if ((flags & O_ACCMODE) == O_RDONLY) file->_flags |= no_writes;
  if ((flags & O_ACCMODE) == O_WRONLY) file->_flags |= no_reads;
  return file;
}

// stdio is about to close the descriptor of this FILE.
void before_closing(FILE* file) noexcept {
  const int fd = file != nullptr ? ::fileno(file) : -1;
  if (fd < 0 || self.find(fd) == nullptr) return;
  static_cast<void>(::fflush(file));  // the last bytes go out before the end is said
  self.drop(fd);
}

}  // namespace

// A connection that nobody joined stays on TCP; where CLC bytes or DMBs may be
// met already, stdio gets our calls instead of the kernel's.
SHIM_HOOK FILE* fdopen(int fd, const char* mode) {
  static real_function<FILE*(int, const char*)> next("fdopen");
  if (const shim::pinned known = self.find_live(fd); known && mode != nullptr) {
    if (known->link.stage() == smcd::end_stage::candidate) self.retire(fd);
    if (!known->link.is_plain()) return open_over_hooks(fd, mode);
  }
  return next(fd, mode);
}
SHIM_HOOK FILE* _IO_fdopen(int, const char*) __attribute__((alias("fdopen")));

SHIM_HOOK int fclose(FILE* file) {
  static real_function<int(FILE*)> next("fclose");
  before_closing(file);
  return next(file);
}
SHIM_HOOK int _IO_fclose(FILE*) __attribute__((alias("fclose")));

SHIM_HOOK FILE* freopen(const char* path, const char* mode, FILE* file) {
  static real_function<FILE*(const char*, const char*, FILE*)> next("freopen64");
  before_closing(file);
  if (file != nullptr && mode != nullptr && is_over_hooks(*file)) {
    return reopen_over_hooks(path, mode, file);
  }
  FILE* opened = next(path, mode, file);
  if (opened != nullptr) self.fresh(::fileno(opened));
  return opened;
}
SHIM_HOOK FILE* freopen64(const char*, const char*, FILE*) __attribute__((alias("freopen")));

// ---- dprintf ---------------------------------------------------------------

namespace {

int write_whole(int fd, const char* from, int size) noexcept {
  for (int done = 0; done < size;) {
    const ssize_t sent = ::write(fd, from + done, static_cast<std::size_t>(size - done));
    if (sent < 0) return -1;
    done += static_cast<int>(sent);
  }
  return size;
}

// Into a live stream: one write, as short texts are one with libc too.
int print(int fd, const char* format, std::va_list& list) noexcept {
  std::array<char, 2048> few;
  std::va_list again;
  va_copy(again, list);
  const int size = std::vsnprintf(few.data(), few.size(), format, list);
  int answer = size;
  if (size > 0 && static_cast<std::size_t>(size) < few.size()) {
    answer = write_whole(fd, few.data(), size);
  } else if (size > 0) {
    const std::size_t room = static_cast<std::size_t>(size) + 1;
    void* many = ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    answer = -1;
    if (many != MAP_FAILED) {
      std::vsnprintf(static_cast<char*>(many), room, format, again);
      answer = write_whole(fd, static_cast<char*>(many), size);
      const int saved = errno;
      ::munmap(many, room);
      errno = saved;
    }
  }
  va_end(again);
  return answer;
}

}  // namespace

SHIM_HOOK int vdprintf(int fd, const char* format, va_list list) {
  static real_function<int(int, const char*, va_list)> next("vdprintf");
  if (!self.find_live(fd)) return next(fd, format, list);
  std::va_list own;
  va_copy(own, list);
  const int answer = print(fd, format, own);
  va_end(own);
  return answer;
}

SHIM_HOOK int dprintf(int fd, const char* format, ...) {
  std::va_list list;
  va_start(list, format);
  const int answer = vdprintf(fd, format, list);
  va_end(list);
  return answer;
}

SHIM_HOOK int __vdprintf_chk(int fd, int flag, const char* format, va_list list) {
  static real_function<int(int, int, const char*, va_list)> next("__vdprintf_chk");
  return self.find_live(fd) ? vdprintf(fd, format, list) : next(fd, flag, format, list);
}

SHIM_HOOK int __dprintf_chk(int fd, int flag, const char* format, ...) {
  std::va_list list;
  va_start(list, format);
  const int answer = __vdprintf_chk(fd, flag, format, list);
  va_end(list);
  return answer;
}
