// SPDX-License-Identifier: Apache-2.0
#pragma once
// Results for people and for programs.

#include <driver/machine.hpp>
#include <driver/options.hpp>
#include <driver/results.hpp>

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

namespace bench {

struct report {
  options how;
  machine where;
  double others = 0;  // share of the machine that somebody else used
  results found;
  std::vector<std::string> remarks;
};

void print_tables(std::ostream&, const report&);
void print_json(std::ostream&, const report&);

// SVG plots of all that has enough points: figures over the size of a message,
// and real programs beside TCP. Throws std::runtime_error.
void draw(const std::filesystem::path& directory, const report&);

// What must not be overlooked: a line for each transport that was not what it
// says, or failed.
[[nodiscard]] std::vector<std::string> alarms(const results&);

}  // namespace bench
