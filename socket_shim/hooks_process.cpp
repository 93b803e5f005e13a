// SPDX-License-Identifier: Apache-2.0
// Hooks: other programs in this process's place, and its end. What a program
// inherits must not be about to speak CLC, since nobody knows whether it can.
#include <socket_shim/hook.hpp>

#include <socket_shim/inheritance.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <unistd.h>

#include <cstdarg>
#include <cstddef>

using shim::self;

namespace {

// libc's own of the exec family call its execve past our hook, so each has one.
// `run` is given the environment. A name of null: the program is known by its
// descriptor.
template <class Run>
int replace_program(const char* program, char* const* environment, Run run) noexcept {
  shim::inheritance passed(program, environment);
  self.before_exec(passed);
  if (const std::size_t size = passed.size(); size > 0) {
    auto** extended = static_cast<char**>(__builtin_alloca(size * sizeof(char*)));
    passed.fill(extended);
    environment = extended;
  }
  const int failed = run(environment);
  self.after_failed_exec();
  return failed;
}

// The arguments of execl and its kin, the null included: how many they are and,
// if there is room for them, a copy.
std::size_t gather(const char* first, std::va_list& list, char** to) noexcept {
  std::size_t count = 0;
  for (char* at = const_cast<char*>(first);; at = va_arg(list, char*)) {
    if (to != nullptr) to[count] = at;
    ++count;
    if (at == nullptr) return count;
  }
}

// Runs with them as an array. `list` stands behind the null then.
template <class Run>
int with_array(const char* first, std::va_list& list, Run run) noexcept {
  std::va_list counted;
  va_copy(counted, list);
  const std::size_t count = gather(first, counted, nullptr);
  va_end(counted);
  auto** arguments = static_cast<char**>(__builtin_alloca(count * sizeof(char*)));
  gather(first, list, arguments);
  return run(arguments);
}

}  // namespace

SHIM_HOOK int execve(const char* path, char* const* arguments, char* const* environment) {
  static shim::real_function<int(const char*, char* const*, char* const*)> next("execve");
  return replace_program(path, environment,
                         [&](char* const* with) noexcept { return next(path, arguments, with); });
}

SHIM_HOOK int execv(const char* path, char* const* arguments) {
  return execve(path, arguments, environ);
}

SHIM_HOOK int execvpe(const char* file, char* const* arguments, char* const* environment) {
  static shim::real_function<int(const char*, char* const*, char* const*)> next("execvpe");
  return replace_program(file, environment,
                         [&](char* const* with) noexcept { return next(file, arguments, with); });
}

SHIM_HOOK int execvp(const char* file, char* const* arguments) {
  return execvpe(file, arguments, environ);
}

SHIM_HOOK int fexecve(int fd, char* const* arguments, char* const* environment) {
  static shim::real_function<int(int, char* const*, char* const*)> next("fexecve");
  return replace_program(nullptr, environment,
                         [&](char* const* with) noexcept { return next(fd, arguments, with); });
}

SHIM_HOOK int execveat(int directory, const char* path, char* const* arguments,
                       char* const* environment, int flags) {
  using function = int(int, const char*, char* const*, char* const*, int);
  static shim::real_function<function> next("execveat");
  return replace_program(nullptr, environment, [&](char* const* with) noexcept {
    return next(directory, path, arguments, with, flags);
  });
}

SHIM_HOOK int execl(const char* path, const char* first, ...) {
  std::va_list list;
  va_start(list, first);
  const int failed =
      with_array(first, list, [&](char** arguments) noexcept { return execv(path, arguments); });
  va_end(list);
  return failed;
}

SHIM_HOOK int execlp(const char* file, const char* first, ...) {
  std::va_list list;
  va_start(list, first);
  const int failed =
      with_array(first, list, [&](char** arguments) noexcept { return execvp(file, arguments); });
  va_end(list);
  return failed;
}

SHIM_HOOK int execle(const char* path, const char* first, ...) {
  std::va_list list;
  va_start(list, first);
  const int failed = with_array(first, list, [&](char** arguments) noexcept {
    return execve(path, arguments, va_arg(list, char* const*));
  });
  va_end(list);
  return failed;
}

SHIM_HOOK void _exit(int status) {
  using function = void(int);
  static shim::real_function<function> next("_exit");
  self.leave();
  next(status);
  __builtin_unreachable();
}

SHIM_HOOK void _Exit(int status) { _exit(status); }

__attribute__((constructor)) static void begin() { shim::take_inheritance(); }

// Leaves the fabric at a normal end. The only destructor of this library: it
// frees nothing, because other threads may still be inside.
__attribute__((destructor)) static void leave() { self.leave(); }
