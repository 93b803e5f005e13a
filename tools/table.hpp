// SPDX-License-Identifier: Apache-2.0
#pragma once
// Text in columns, each as wide as its widest cell.

#include <cstddef>
#include <ostream>
#include <string>
#include <vector>

namespace tools {

class table {
 public:
  explicit table(std::vector<std::string> headings) { rows_.push_back(std::move(headings)); }

  // As many cells as there are headings; an empty one is shown as "-".
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void print(std::ostream&) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace tools
