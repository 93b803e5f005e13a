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
