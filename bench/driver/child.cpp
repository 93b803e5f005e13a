// SPDX-License-Identifier: Apache-2.0
#include <driver/child.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace bench {
namespace {

volatile std::sig_atomic_t stopping = 0;

// Pointers for exec; a null one ends them.
std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> made;
  for (std::string& text : texts) made.push_back(text.data());
  made.push_back(nullptr);
  return made;
}

// Ours, less what the command sets anew and what would preload something.
std::vector<std::string> environment_of(const command& what) {
  std::vector<std::string> made = what.environment;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view ours(*at);
    const std::string_view name = ours.substr(0, ours.find('=') + 1);
    const auto is_set = [&](const std::string& set) { return set.starts_with(name); };
    if (name == "LD_PRELOAD=" ||
        std::any_of(what.environment.begin(), what.environment.end(), is_set)) {
      continue;
    }
    made.emplace_back(ours);
  }
  return made;
}

}  // namespace

child::child(const command& what) {
  std::vector<std::string> arguments = what.arguments;
  arguments.insert(arguments.begin(), what.program);
  std::vector<std::string> environment = environment_of(what);
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> envp = pointers(environment);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    ::dup2(ends[1], STDOUT_FILENO);
    if (what.cpu >= 0) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(static_cast<unsigned>(what.cpu), &set);
      ::sched_setaffinity(0, sizeof set, &set);
    }
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  output_ = ends[0];
  if (pid_ < 0) {
    ::close(output_);
    throw std::system_error(errno, std::system_category(), "fork");
  }
}

child::~child() {
  ::close(output_);
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::optional<std::string> child::read_line(clock::time_point until) {
  for (;;) {
    if (const std::size_t end = text_.find('\n'); end != std::string::npos) {
      std::string line = text_.substr(0, end);
      text_.erase(0, end + 1);
      return line;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - clock::now());
    pollfd ready{output_, POLLIN, 0};
    const int answer = left.count() > 0 ? ::poll(&ready, 1, static_cast<int>(left.count()) + 1) : 0;
    if (is_stopping()) throw std::runtime_error("stopped");
    if (answer == 0) throw std::runtime_error("no end in time");
    char bytes[4096];
    const ssize_t got = answer > 0 ? ::read(output_, bytes, sizeof bytes) : 0;
    if (answer > 0 && got <= 0) return std::nullopt;
    text_.append(bytes, static_cast<std::size_t>(got));
  }
}

bool child::ended_well() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void stop_on_signals() noexcept {
  struct sigaction action {};
  action.sa_handler = [](int) { stopping = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool is_stopping() noexcept { return stopping != 0; }

}  // namespace bench
