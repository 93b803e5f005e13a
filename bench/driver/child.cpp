// SPDX-License-Identifier: Apache-2.0
#include <driver/child.hpp>

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

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

// In the new process, before it becomes what it shall be.
bool prepare(const command& what, const passwd* user) noexcept {
  if (what.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(what.cpu), &set);
    ::sched_setaffinity(0, sizeof set, &set);
  }
  if (!what.membership.empty()) {
    const int file = ::open(what.membership.c_str(), O_WRONLY | O_CLOEXEC);
    if (file < 0 || ::write(file, "0", 1) != 1) return false;
    ::close(file);
  }
  if (user != nullptr && (::setgroups(0, nullptr) != 0 || ::setgid(user->pw_gid) != 0 ||
                          ::setuid(user->pw_uid) != 0)) {
    return false;
  }
  return what.directory.empty() || ::chdir(what.directory.c_str()) == 0;
}

}  // namespace

child::child(const command& what) {
  std::vector<std::string> arguments = what.arguments;
  arguments.insert(arguments.begin(), what.program);
  std::vector<std::string> environment = environment_of(what);
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> envp = pointers(environment);
  const passwd* user = what.user.empty() ? nullptr : ::getpwnam(what.user.c_str());
  if (!what.user.empty() && user == nullptr) {
    throw std::runtime_error("there is no user " + what.user);
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::setpgid(0, 0);
    ::dup2(ends[1], STDOUT_FILENO);
    if (what.says_errors) ::dup2(ends[1], STDERR_FILENO);
    if (!prepare(what, user)) ::_exit(127);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // another user would take it back
    if (::getppid() != parent) ::_exit(127);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  output_ = ends[0];
  if (pid_ < 0) {
    ::close(output_);
    throw std::system_error(errno, std::system_category(), "fork");
  }
  ::setpgid(pid_, pid_);
}

child::~child() {
  if (pid_ >= 0) {
    ::kill(-pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  ::close(output_);
}

bool child::has_ended() const noexcept {
  siginfo_t seen{};
  return ::waitid(P_PID, static_cast<id_t>(pid_), &seen, WEXITED | WNOHANG | WNOWAIT) != 0 ||
         seen.si_pid == pid_;
}

void child::stop() noexcept {
  if (pid_ < 0) return;
  ::kill(pid_, SIGTERM);
  const auto until = clock::now() + std::chrono::seconds(3);
  // The output ends with the last of the group.
  try {
    static_cast<void>(read_all(until));
  } catch (const std::runtime_error&) {
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

std::string child::read_all(clock::time_point until) {
  std::string all;
  while (const auto line = read_line(until)) all += *line + '\n';
  return all + std::exchange(text_, {});
}

bool child::ended_well() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

double child::cpu_seconds() const {
  double ticks = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream from(entry.path() / "stat");
    std::string line;
    if (!std::getline(from, line)) continue;
    // state ppid pgrp, 8 others, then utime stime cutime cstime
    std::istringstream fields(line.substr(line.rfind(')') + 1));
    std::string word;
    pid_t group = 0;
    if (!(fields >> word >> word >> group) || group != pid_) continue;
    for (int i = 0; i < 8; ++i) fields >> word;
    for (double part = 0, i = 0; i < 4 && fields >> part; ++i) ticks += part;
  }
  return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

void stop_on_signals() noexcept {
  struct sigaction action {};
  action.sa_handler = [](int) { stopping = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool is_stopping() noexcept { return stopping != 0; }

}  // namespace bench
