// SPDX-License-Identifier: Apache-2.0
#pragma once
// What every object of the command line has: `dibsock OBJECT [arguments]`.

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tools {

using arguments = std::vector<std::string>;

// What the user got wrong, in words that follow "dibsock OBJECT: ".
struct usage_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct command {
  std::string_view name;
  std::string_view summary;
  int failure_status;                         // exit status after an exception
  int (*run)(const arguments& without_name);  // returns the exit status; may throw
};

int run_program(const arguments&);  // `run` owns exit statuses 125 to 127, as env(1) does
int show_sockets(const arguments&);
int measure(const arguments&);
int run_benchmarks(const arguments&);  // becomes another program; exit statuses are that one's

}  // namespace tools
