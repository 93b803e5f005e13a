// SPDX-License-Identifier: Apache-2.0
// Hooks: other processes. fork itself tells us by pthread_atfork; the child of
// vfork is known by its pid. Here are the ways that tell nobody.
#include <socket_shim/hook.hpp>

#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/wait.hpp>

#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <unistd.h>
#include <wordexp.h>

#include <cstdarg>
#include <cstdint>

using shim::real_function;
using shim::self;

// ---- programs beside this one ----------------------------------------------

SHIM_HOOK int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t* list, int from, int to) {
  static real_function<int(posix_spawn_file_actions_t*, int, int)> next(
      "posix_spawn_file_actions_adddup2");
  // The child's copy has no FD_CLOEXEC.
  self.give_to_kernel(from, shim::process::after_leaving::drains);
  return next(list, from, to);
}

using spawn_function = int(pid_t*, const char*, const posix_spawn_file_actions_t*,
                           const posix_spawnattr_t*, char* const*, char* const*);

SHIM_HOOK int posix_spawn(pid_t* made, const char* path, const posix_spawn_file_actions_t* actions,
                          const posix_spawnattr_t* attributes, char* const* arguments,
                          char* const* environment) {
  static real_function<spawn_function> next("posix_spawn");
  self.retire_inheritable();
  return next(made, path, actions, attributes, arguments, environment);
}

SHIM_HOOK int posix_spawnp(pid_t* made, const char* file, const posix_spawn_file_actions_t* actions,
                           const posix_spawnattr_t* attributes, char* const* arguments,
                           char* const* environment) {
  static real_function<spawn_function> next("posix_spawnp");
  self.retire_inheritable();
  return next(made, file, actions, attributes, arguments, environment);
}

SHIM_HOOK int system(const char* command) {
  static real_function<int(const char*)> next("system");
  if (command != nullptr) self.retire_inheritable();
  return next(command);
}

SHIM_HOOK FILE* popen(const char* command, const char* mode) {
  static real_function<FILE*(const char*, const char*)> next("popen");
  self.retire_inheritable();
  return next(command, mode);
}
SHIM_HOOK FILE* _IO_popen(const char* command, const char* mode) { return popen(command, mode); }

// Runs a shell for what stands in $( ).
SHIM_HOOK int wordexp(const char* words, wordexp_t* to, int flags) {
  static real_function<int(const char*, wordexp_t*, int)> next("wordexp");
  if ((flags & WRDE_NOCMD) == 0) self.retire_inheritable();
  return next(words, to, flags);
}

// ---- copies of this one ----------------------------------------------------

// Forks and closes 0, 1 and 2 inside libc.
SHIM_HOOK int daemon(int stays, int keeps) {
  static real_function<int(int, int)> next("daemon");
  const int answer = next(stays, keeps);
  for (int fd = 0; answer == 0 && keeps == 0 && fd < 3; ++fd) self.drop_stale(fd);
  return answer;
}

// fork without the handlers of pthread_atfork.
SHIM_HOOK pid_t _Fork() {
  static real_function<pid_t()> next("_Fork");
  self.before_fork();
  const pid_t child = next();
  if (child == 0) {
    self.after_fork_in_child();
  } else {
    self.after_fork_in_parent();
  }
  return child;
}

namespace {

struct beginning {
  int (*run)(void*);
  void* argument;
};

int begin_copy(void* of) {
  const beginning here = *static_cast<beginning*>(of);
  self.after_fork_in_child();
  return here.run(here.argument);
}

}  // namespace

SHIM_HOOK int clone(int (*run)(void*), void* stack, int flags, void* argument, ...) {
  using function = int(int (*)(void*), void*, int, void*, pid_t*, void*, pid_t*);
  static real_function<function> next("clone");
  std::va_list list;
  va_start(list, argument);
  auto* parent_id = va_arg(list, pid_t*);
  auto* thread_data = va_arg(list, void*);
  auto* child_id = va_arg(list, pid_t*);
  va_end(list);
  self.before_clone(static_cast<std::uint64_t>(flags));
  if ((flags & CLONE_VM) != 0 || run == nullptr || stack == nullptr) {
    return next(run, stack, flags, argument, parent_id, thread_data, child_id);
  }
  self.before_fork();
  beginning here{run, argument};
  const int child = next(begin_copy, stack, flags, &here, parent_id, thread_data, child_id);
  self.after_fork_in_parent();
  return child;
}
SHIM_HOOK int __clone(int (*)(void*), void*, int, void*, ...) noexcept
    __attribute__((alias("clone")));

// A thread with descriptors of its own: numbers mean one thing here, another
// there.
SHIM_HOOK int unshare(int flags) noexcept {
  static real_function<int(int)> next("unshare");
  if ((flags & CLONE_FILES) != 0 && !shim::is_alone()) self.distrust_numbers();
  return next(flags);
}
