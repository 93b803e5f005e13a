// SPDX-License-Identifier: Apache-2.0
#pragma once
// Measurements: two worker processes each time.

#include <driver/machine.hpp>
#include <driver/options.hpp>
#include <driver/results.hpp>

#include <filesystem>
#include <optional>
#include <string>

namespace bench {

// Directory in shared memory for fabric and rings; gone at the end.
class scratch {
 public:
  scratch();
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  ~scratch();
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

class runner {
 public:
  runner(const options&, const machine&);

  // Why a transport cannot take part at all; empty if it can.
  [[nodiscard]] std::string obstacle(const transport&) const;
  // Throws std::runtime_error if it came to nothing.
  [[nodiscard]] figures measure(const transport&, const question&) const;

 private:
  const options& wanted_;
  const machine& on_;
  std::filesystem::path programs_;
  std::filesystem::path preload_;
  scratch scratch_;
};

}  // namespace bench
