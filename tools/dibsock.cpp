// SPDX-License-Identifier: Apache-2.0
// The command `dibsock`: finds the object on the command line and hands over.
#include <tools/command.hpp>

#include <array>
#include <exception>
#include <iomanip>
#include <iostream>

namespace tools {
namespace {

constexpr std::array commands{
    command{"run", "run a program whose TCP connections may move to shared memory", 125,
            run_program},
    command{"ss", "show the connections and listeners of a fabric", 1, show_sockets},
    command{"perf", "measure throughput and round trips between two processes", 1, measure},
    command{"bench", "measure everything beside TCP, UNIX sockets and bare memory", 1,
            run_benchmarks},
};

void print_usage(std::ostream& to) {
  to << "Usage: dibsock OBJECT [OPTIONS]\n"
        "SMC-D sockets in user space: TCP connections within a machine, over shared memory.\n\n"
        "Objects, which may be abbreviated:\n";
  for (const command& known : commands) {
    to << "  " << std::left << std::setw(6) << known.name << known.summary << '\n';
  }
  to << "\n  -h, --help     print this text; `dibsock OBJECT --help` prints an object's options\n"
        "  -v, --version  print the version\n";
}

// The one whose name begins with `text`, or null: there is none, or several.
const command* find(std::string_view text) {
  const command* found = nullptr;
  for (const command& known : commands) {
    if (!known.name.starts_with(text)) continue;
    if (found != nullptr) return nullptr;
    found = &known;
  }
  return found;
}

int run(const arguments& given) {
  if (given.empty()) {
    print_usage(std::cerr);
    return 1;
  }
  if (given[0] == "-h" || given[0] == "--help") {
    print_usage(std::cout);
    return 0;
  }
  if (given[0] == "-v" || given[0] == "--version") {
    std::cout << "dibsock " DIBSOCK_VERSION "\n";
    return 0;
  }
  const command* wanted = given[0].empty() ? nullptr : find(given[0]);
  if (wanted == nullptr) {
    std::cerr << "dibsock: there is no object '" << given[0] << "'; see dibsock --help\n";
    return 1;
  }
  try {
    return wanted->run({given.begin() + 1, given.end()});
  } catch (const usage_error& failure) {
    std::cerr << "dibsock " << wanted->name << ": " << failure.what() << "; see dibsock "
              << wanted->name << " --help\n";
  } catch (const std::exception& failure) {
    std::cerr << "dibsock " << wanted->name << ": " << failure.what() << '\n';
  }
  return wanted->failure_status;
}

}  // namespace
}  // namespace tools

int main(int count, char** values) {
  const int status = tools::run({values + (count > 0 ? 1 : 0), values + count});
  // Output that nobody could take (a full disk) is a failure like any other.
  return std::cout.flush() ? status : 1;
}
