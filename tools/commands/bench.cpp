// SPDX-License-Identifier: Apache-2.0
// `dibsock bench`: becomes dibsock-bench, which knows the options.
#include <tools/command.hpp>
#include <tools/library.hpp>

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>

namespace tools {
namespace {

// Beside this program when built; with its workers when installed.
std::string find_benchmark() {
  const std::string beside = directory_of_this_program();
  for (const char* directory : {"", "/../libexec/dibsock"}) {
    std::string path = beside + directory + "/dibsock-bench";
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  throw std::runtime_error(
      "dibsock-bench is neither beside this program nor in ../libexec/dibsock");
}

}  // namespace

int run_benchmarks(const arguments& given) {
  const std::string program = find_benchmark();
  try {
    ::setenv("DIBSOCK_PRELOAD", find_library().c_str(), 1);
  } catch (const std::runtime_error&) {
    // It tells itself what it has to do without.
  }
  std::string name("dibsock bench");
  std::vector<char*> values{name.data()};
  for (const std::string& value : given) values.push_back(const_cast<char*>(value.c_str()));
  values.push_back(nullptr);
  std::cout.flush();
  ::execv(program.c_str(), values.data());
  throw std::runtime_error("'" + program + "': " + std::strerror(errno));
}

}  // namespace tools
