// SPDX-License-Identifier: Apache-2.0
#pragma once
// The machine that everything runs on: its name, the CPUs to use, and whether
// somebody else used them too.

#include <cstdint>
#include <optional>
#include <string>

namespace bench {

struct machine {
  std::string cpu;  // model and count
  std::string kernel;
  int first_cpu = 0;
  std::optional<int> second_cpu;  // another core; none if there is but one
};

[[nodiscard]] machine look_at_machine();

// The whole path of a program: in PATH, or where servers are. Empty: nowhere.
[[nodiscard]] std::string find_program(const std::string& name);
// PATH, and where servers are.
[[nodiscard]] const std::string& program_path();

// Of 127.0.0.1, and free a moment ago.
[[nodiscard]] std::uint16_t free_port();
// Does somebody listen at a port of 127.0.0.1, or at the path of a UNIX socket?
[[nodiscard]] bool is_listening(const std::string& where);
// What crossed the loopback interface since the machine started.
[[nodiscard]] std::uint64_t lo_bytes();
// CPU time of all children that ended and were waited for, seconds.
[[nodiscard]] double cpu_of_children() noexcept;

// How much of the machine others used since this was made, 0 to 1.
class neighbours {
 public:
  neighbours() noexcept;
  [[nodiscard]] double share() const noexcept;

 private:
  double busy_ = 0;
  double all_ = 0;
  double ours_ = 0;
};

}  // namespace bench
