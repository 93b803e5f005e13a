// SPDX-License-Identifier: Apache-2.0
#pragma once
// The command line.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct options {
  unsigned repeats = 5;         // of the whole plan
  std::uint64_t time_ms = 150;  // of one measurement
  std::uint64_t warm_up_ms = 50;
  std::uint64_t rounds = 0;  // most of one measurement; 0: no limit
  bool is_quick = false;     // does it work at all?
  bool is_json = false;
  bool is_pinned = false;               // programs of others too
  std::filesystem::path output;         // directory for all forms of the report; empty: none
  std::vector<std::string> questions;   // as is_named() takes them; none: all
  std::vector<std::string> transports;  // names; none: all
  std::filesystem::path preload;        // the shim
};

// Does `wanted` mean `name`? The first words of a name mean all that begin so.
[[nodiscard]] inline bool is_named(std::string_view name, std::string_view wanted) {
  return name.starts_with(wanted) && (name.size() == wanted.size() || name[wanted.size()] == '-');
}

// Nothing: help was asked for and printed. Throws usage_error.
[[nodiscard]] std::optional<options> parse_options(int count, char** values);

}  // namespace bench
