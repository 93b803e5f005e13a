// SPDX-License-Identifier: Apache-2.0
// Hooks: other programs in this process's place. What they inherit must not be
// about to speak CLC, since nobody knows whether they can.
#include <socket_shim/hook.hpp>

#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <unistd.h>

#include <cstdarg>
#include <cstddef>

using shim::self;

SHIM_HOOK int execve(const char* path, char* const* arguments, char* const* environment) {
  using function = int(const char*, char* const*, char* const*);
  static shim::real_function<function> next("execve");
  self.before_exec();
  const int failed = next(path, arguments, environment);
  self.after_failed_exec();
  return failed;
}

SHIM_HOOK int execv(const char* path, char* const* arguments) {
  using function = int(const char*, char* const*);
  static shim::real_function<function> next("execv");
  self.before_exec();
  const int failed = next(path, arguments);
  self.after_failed_exec();
  return failed;
}

SHIM_HOOK int execvp(const char* file, char* const* arguments) {
  using function = int(const char*, char* const*);
  static shim::real_function<function> next("execvp");
  self.before_exec();
  const int failed = next(file, arguments);
  self.after_failed_exec();
  return failed;
}

SHIM_HOOK int execvpe(const char* file, char* const* arguments, char* const* environment) {
  using function = int(const char*, char* const*, char* const*);
  static shim::real_function<function> next("execvpe");
  self.before_exec();
  const int failed = next(file, arguments, environment);
  self.after_failed_exec();
  return failed;
}

SHIM_HOOK int fexecve(int fd, char* const* arguments, char* const* environment) {
  using function = int(int, char* const*, char* const*);
  static shim::real_function<function> next("fexecve");
  self.before_exec();
  const int failed = next(fd, arguments, environment);
  self.after_failed_exec();
  return failed;
}

SHIM_HOOK int execveat(int directory, const char* path, char* const* arguments,
                       char* const* environment, int flags) {
  using function = int(int, const char*, char* const*, char* const*, int);
  static shim::real_function<function> next("execveat");
  self.before_exec();
  const int failed = next(directory, path, arguments, environment, flags);
  self.after_failed_exec();
  return failed;
}

namespace {

// The arguments behind the first one of execl and its kin, with the null.
std::size_t count_arguments(std::va_list& list) noexcept {
  std::size_t count = 1;
  while (va_arg(list, char*) != nullptr) ++count;
  return count;
}

void copy_arguments(const char* first, std::va_list& list, char** to) noexcept {
  *to = const_cast<char*>(first);
  while (*to != nullptr) *++to = va_arg(list, char*);
}

}  // namespace

// libc's own of these three call its execve past our hook.
SHIM_HOOK int execl(const char* path, const char* first, ...) {
  std::va_list list;
  va_start(list, first);
  const std::size_t count = 1 + count_arguments(list);
  va_end(list);
  auto** arguments = static_cast<char**>(__builtin_alloca(count * sizeof(char*)));
  va_start(list, first);
  copy_arguments(first, list, arguments);
  va_end(list);
  return execv(path, arguments);
}

SHIM_HOOK int execlp(const char* file, const char* first, ...) {
  std::va_list list;
  va_start(list, first);
  const std::size_t count = 1 + count_arguments(list);
  va_end(list);
  auto** arguments = static_cast<char**>(__builtin_alloca(count * sizeof(char*)));
  va_start(list, first);
  copy_arguments(first, list, arguments);
  va_end(list);
  return execvp(file, arguments);
}

SHIM_HOOK int execle(const char* path, const char* first, ...) {
  std::va_list list;
  va_start(list, first);
  const std::size_t count = 1 + count_arguments(list);
  va_end(list);
  auto** arguments = static_cast<char**>(__builtin_alloca(count * sizeof(char*)));
  va_start(list, first);
  copy_arguments(first, list, arguments);
  char* const* environment = va_arg(list, char* const*);
  va_end(list);
  return execve(path, arguments, environment);
}

SHIM_HOOK void _exit(int status) {
  using function = void(int);
  static shim::real_function<function> next("_exit");
  self.leave();
  next(status);
  __builtin_unreachable();
}

SHIM_HOOK void _Exit(int status) { _exit(status); }

// Leaves the fabric at a normal end. The only destructor of this library: it
// frees nothing, because other threads may still be inside.
__attribute__((destructor)) static void leave() { self.leave(); }
