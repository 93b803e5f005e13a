// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs a program as a shell would, and keeps what it said.

#include <support/require.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace support {

inline constexpr const char* tool_program = DIBSOCK_PROGRAM;

struct tool_result {
  int status = -1;  // exit status; minus the signal's number if one ended it
  std::string output;
  std::string errors;
};

using words = std::vector<std::string>;
using variables = std::vector<std::pair<std::string, std::string>>;

// A program that runs beside the test. Its environment is the test's with
// DIBSOCK* and LD_PRELOAD removed, and `changes`.
class running_tool {
 public:
  explicit running_tool(const words& command, const variables& changes = {})
      : output_(::memfd_create("output", MFD_CLOEXEC)),
        errors_(::memfd_create("errors", MFD_CLOEXEC)) {
    require(output_ >= 0 && errors_ >= 0, "memfd_create works");
    words environment;
    for (char** at = environ; *at != nullptr; ++at) {
      const std::string_view entry(*at);
      if (!entry.starts_with("DIBSOCK") && !entry.starts_with("LD_PRELOAD=")) {
        environment.emplace_back(entry);
      }
    }
    for (const auto& [name, value] : changes) {
      // The first one counts.
      environment.insert(environment.begin(), name + "=" + value);
    }
    const std::vector<char*> argv = pointers(command);
    const std::vector<char*> envp = pointers(environment);
    pid_ = ::fork();
    require(pid_ >= 0, "fork works");
    if (pid_ != 0) return;
    const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (::dup2(nothing, 0) == 0 && ::dup2(output_, 1) == 1 && ::dup2(errors_, 2) == 2) {
      ::execvpe(argv[0], argv.data(), envp.data());
    }
    ::_exit(99);
  }
  running_tool(const running_tool&) = delete;
  running_tool& operator=(const running_tool&) = delete;
  ~running_tool() {
    signal(SIGKILL);
    if (pid_ > 0) wait();
    ::close(output_);
    ::close(errors_);
  }

  void signal(int number) {
    if (pid_ > 0) ::kill(pid_, number);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

  tool_result wait() {
    int status = 0;
    while (pid_ > 0 && ::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), output(), errors()};
  }

  // What it said so far.
  [[nodiscard]] std::string output() const { return content(output_); }
  [[nodiscard]] std::string errors() const { return content(errors_); }
  // Waits until that stands in its output; the program may not end before.
  std::string await_output(std::string_view text) {
    for (;;) {
      siginfo_t ended{};
      ::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT);
      const std::string said = output();
      if (said.find(text) != std::string::npos) return said;
      require(ended.si_pid == 0, "the program says '" + std::string(text) + "': " + errors());
      ::usleep(1000);
    }
  }

 private:
  static std::vector<char*> pointers(const words& from) {
    std::vector<char*> to;
    for (const std::string& word : from) to.push_back(const_cast<char*>(word.c_str()));
    to.push_back(nullptr);
    return to;
  }
  static std::string content(int fd) {
    std::string all;
    std::array<char, 4096> part;
    for (;;) {
      const ssize_t n = ::pread(fd, part.data(), part.size(), static_cast<off_t>(all.size()));
      if (n <= 0) return all;
      all.append(part.data(), static_cast<std::size_t>(n));
    }
  }

  int output_;
  int errors_;
  pid_t pid_ = -1;
};

inline tool_result run_tool(words arguments, const variables& changes = {}) {
  arguments.insert(arguments.begin(), tool_program);
  return running_tool(arguments, changes).wait();
}

// A directory on a file system where set-uid bits count, gone at the end.
class scratch_directory {
 public:
  scratch_directory() {
    std::string name = std::filesystem::temp_directory_path() / "dibsock-test-XXXXXX";
    require(::mkdtemp(name.data()) != nullptr, "mkdtemp works");
    path_ = name;
  }
  scratch_directory(const scratch_directory&) = delete;
  scratch_directory& operator=(const scratch_directory&) = delete;
  ~scratch_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace support
