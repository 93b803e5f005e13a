// SPDX-License-Identifier: Apache-2.0
#pragma once
// Measurements: a server and a client each time, two workers of ours or two
// programs of others.

#include <driver/child.hpp>
#include <driver/machine.hpp>
#include <driver/options.hpp>
#include <driver/results.hpp>
#include <driver/sockmap.hpp>

#include <filesystem>
#include <optional>
#include <set>
#include <string>

namespace bench {

// Directory in shared memory for fabrics, rings and files; gone at the end.
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

  // Why a transport, or a question, cannot take part at all; empty if it can.
  [[nodiscard]] std::string obstacle(const transport&);
  [[nodiscard]] std::string obstacle(const question&) const;
  // Throws std::runtime_error if it came to nothing.
  [[nodiscard]] figures measure(const transport&, const question&);

 private:
  [[nodiscard]] command base(const transport&, const question&, bool is_server,
                             const std::filesystem::path& fabric) const;
  [[nodiscard]] command worker(const transport&, const question&, bool is_server,
                               const std::string& address) const;
  [[nodiscard]] figures measure_workers(const transport&, const question&) const;
  [[nodiscard]] figures measure_programs(const transport&, const question&);
  // The directory of a pair, made and prepared when it was first asked for.
  [[nodiscard]] std::filesystem::path prepared(const program_pair&);

  const options& wanted_;
  const machine& on_;
  std::filesystem::path programs_;
  std::filesystem::path preload_;
  scratch scratch_;
  std::optional<sockmap> sockmap_;  // made when it was first asked for
  std::set<std::string> prepared_;
};

}  // namespace bench
