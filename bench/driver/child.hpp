// SPDX-License-Identifier: Apache-2.0
#pragma once
// A process of ours whose output we read, leader of a group of processes. The
// group never outlives this object, nor the leader this process.

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace bench {

using clock = std::chrono::steady_clock;

struct command {
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;  // NAME=value, besides ours
  int cpu = -1;                          // to run on; -1: any
  std::string directory;                 // to run in; empty: ours
  std::string user;                      // to be; empty: who we are
  std::string membership;                // file to write 0 into; empty: none
  bool says_errors = false;              // its errors are part of its output
};

class child {
 public:
  // Throws std::system_error.
  explicit child(const command&);
  child(const child&) = delete;
  child& operator=(const child&) = delete;
  ~child();

  // Nothing: the output ended. Throws std::runtime_error when time is over or
  // somebody wants us to stop.
  [[nodiscard]] std::optional<std::string> read_line(clock::time_point until);
  // All lines to come, until the output ends.
  [[nodiscard]] std::string read_all(clock::time_point until);
  // After the last line. True: the process ended well.
  [[nodiscard]] bool ended_well();
  [[nodiscard]] bool has_ended() const noexcept;
  // Asks it to end, and all processes that it started; soon they must.
  void stop() noexcept;
  // CPU time that it used, and all that it started, as long as they live or it
  // has waited for them. Good to a hundredth of a second.
  [[nodiscard]] double cpu_seconds() const;

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string text_;
};

// SIGINT and SIGTERM make read_line() throw, so that everything is tidied up.
void stop_on_signals() noexcept;
[[nodiscard]] bool is_stopping() noexcept;

}  // namespace bench
