// SPDX-License-Identifier: Apache-2.0
#pragma once
// Looking after processes that may hang, and telling where.

#include "page.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

constexpr auto patience = std::chrono::seconds(10);
constexpr const char* role_names[] = {"client", "server"};

inline void tell_state(const page& shared) {
  for (const role at : {ROLE_CLIENT, ROLE_SERVER}) {
    const progress& of = shared.ends[at];
    std::fprintf(
        stderr, "  %s: %llu steps, attempted %llu, published %llu, received %llu, outcome %llu%s\n",
        role_names[at], static_cast<unsigned long long>(word_at(&of.steps)),
        static_cast<unsigned long long>(word_at(&of.attempted)),
        static_cast<unsigned long long>(word_at(&of.published)),
        static_cast<unsigned long long>(word_at(&of.received)),
        static_cast<unsigned long long>(word_at(&of.outcome)),
        word_at(&of.is_dead) != 0 ? ", killed" : "");
  }
}

inline void tell_where(pid_t pid) {
  std::error_code ignored;
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks, ignored)) {
    std::string where;
    std::string call;
    std::getline(std::ifstream(task.path() / "wchan"), where);
    std::getline(std::ifstream(task.path() / "syscall"), call);
    std::fprintf(stderr, "  %s: %s [%s]\n", task.path().c_str(), where.c_str(), call.c_str());
  }
}

// Its wait status; false if it made no step for so long that it had to be killed.
inline bool await_exit(pid_t pid, int& status, const progress* of = nullptr) {
  using clock_type = std::chrono::steady_clock;
  auto since = clock_type::now();
  std::uint64_t seen = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    const auto now = clock_type::now();
    const std::uint64_t steps = of == nullptr ? 0 : word_at(&of->steps);
    if (steps != seen) since = now;
    seen = steps;
    if (now - since > patience) {
      tell_where(pid);
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      return false;
    }
    ::usleep(100);
  }
  return true;
}

// A wait status in words.
inline std::string how(int status) {
  return WIFSIGNALED(status) ? "ended by signal " + std::to_string(WTERMSIG(status))
                             : "ended with status " + std::to_string(WEXITSTATUS(status));
}
