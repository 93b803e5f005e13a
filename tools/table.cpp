// SPDX-License-Identifier: Apache-2.0
#include <tools/table.hpp>

#include <algorithm>

namespace tools {

void table::print(std::ostream& to) const {
  std::vector<std::size_t> widths(rows_[0].size(), 1);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      std::string cell = row[i].empty() ? "-" : row[i];
      cell.resize(widths[i], ' ');
      line += (i == 0 ? "" : "  ") + cell;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    to << line << '\n';
  }
}

}  // namespace tools
