// SPDX-License-Identifier: Apache-2.0
// `dibsock run`: sets the environment that loads libdibsock-preload.so into a
// program, and becomes that program.
#include <tools/library.hpp>
#include <tools/options.hpp>
#include <tools/program.hpp>

#include <devices/device.hpp>
#include <devices/fabric.hpp>
#include <smcd/config.hpp>
#include <smcd/eid.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>

namespace tools {
namespace {

constexpr std::uint64_t max_spin_us = 1'000'000;

void set_variable(const char* name, const std::string& value) {
  if (::setenv(name, value.c_str(), 1) != 0) throw std::runtime_error("no memory");
}

std::string real_path(const std::string& path) {
  char* const found = ::realpath(path.c_str(), nullptr);
  if (found == nullptr) throw std::runtime_error("'" + path + "': " + std::strerror(errno));
  std::string absolute(found);
  std::free(found);
  return absolute;
}

// Behind what is preloaded already, and only once.
std::string preload_list(const std::string& library) {
  if (library.find_first_of(": ") != std::string::npos) {
    throw std::runtime_error("'" + library +
                             "' cannot be preloaded: LD_PRELOAD allows neither "
                             "spaces nor colons in a path");
  }
  const char* given = std::getenv("LD_PRELOAD");
  std::string before(given != nullptr ? given : "");
  if (before.empty()) return library;
  const std::string_view separators(": ");
  for (std::size_t start = 0; start <= before.size();) {
    const std::size_t end = std::min(before.find_first_of(separators, start), before.size());
    if (before.compare(start, end - start, library) == 0) return before;
    start = end + 1;
  }
  return before + ":" + library;
}

// An absolute path: the program may change its directory before it opens a socket.
std::string checked_fabric(const std::string& directory) {
  if (directory.empty()) throw usage_error("--fabric names no directory");
  struct stat status {};
  if (::stat(directory.c_str(), &status) == 0 && !S_ISDIR(status.st_mode)) {
    throw std::runtime_error("--fabric '" + directory + "' is no directory");
  }
  const dibs::result<dibs::fabric> fabric = dibs::fabric::open(directory);
  if (!fabric)
    throw std::runtime_error("--fabric '" + directory + "': " + fabric.error().message());
  std::string absolute = real_path(directory);
  if (const auto again = dibs::fabric::open(absolute);
      !again || absolute.size() >= sizeof smcd::config{}.fabric) {
    throw usage_error("--fabric '" + absolute + "' is too long a path");
  }
  return absolute;
}

void check_ueids(const std::string& list) {
  constexpr std::size_t most = smcd::config{}.ueids.size();
  std::size_t count = 0;
  for (std::size_t start = 0; start <= list.size(); ++count) {
    const std::size_t end = std::min(list.find(',', start), list.size());
    const std::string name = list.substr(start, end - start);
    if (!smcd::is_ueid(name)) {
      throw usage_error("--ueid '" + name +
                        "' is no UEID: 1 to 32 of A-Z 0-9 . -, the first one "
                        "a letter or a digit, no two dots in a row");
    }
    start = end + 1;
  }
  if (count > most) {
    throw usage_error("--ueid: at most " + std::to_string(most) + " UEIDs are possible");
  }
}

// What stands in the environment besides, set by the user or by us.
void check_environment() {
  const smcd::config settings =
      smcd::read_config([](const char* name) noexcept -> const char* { return std::getenv(name); });
  if (settings.complaint[0] != '\0') {
    std::cerr << "dibsock: " << settings.complaint.data() << '\n';
  }
  if (!settings.is_enabled) std::cerr << "dibsock: DIBSOCK=off is set; everything stays on TCP\n";
}

// Tells what the library cannot reach. False if it would even do harm.
bool is_worth_preloading(const std::string& command) {
  const std::optional<std::string> path = find_in_path(command);
  if (!path) return true;  // exec will say why
  const program found = inspect(*path);
  if (found.why_not == obstacle::none) return true;
  std::cerr << "dibsock: " << found.file;
  if (!found.script.empty()) std::cerr << ", the interpreter of " << found.script << ",";
  std::cerr << ' ' << to_text(found.why_not) << " and cannot be reached; it stays on TCP"
            << std::endl;
  // Programs that it starts may well be reached, so the library stays in the
  // environment; but another C library's linker may refuse to start at all.
  return found.why_not != obstacle::other_libc;
}

int become(const arguments& command) {
  std::vector<char*> values;
  for (const std::string& value : command) values.push_back(const_cast<char*>(value.c_str()));
  values.push_back(nullptr);
  std::cout.flush();
  ::execvp(values[0], values.data());
  const int failure = errno;
  std::cerr << "dibsock: cannot run '" << command[0] << "': " << std::strerror(failure) << '\n';
  return failure == ENOENT ? 127 : 126;
}

}  // namespace

int run_program(const arguments& given) {
  options known("dibsock run [OPTIONS] [--] COMMAND [ARGUMENTS]", options::others::end_options);
  known.flag("debug,d", "tell on stderr what stays on TCP and why (DIBSOCK_LOG=1)");
  known.value("fabric", "directory through which programs meet (DIBSOCK_FABRIC)");
  known.value("ueid",
              "enterprise ids, separated by commas; two programs need one in common "
              "(DIBSOCK_UEID)");
  known.value("buffer", "receive buffer of a connection, 16k to 4m (DIBSOCK_BUFFER)");
  known.value("spin-us",
              "longest busy wait before sleeping, in microseconds; 0 for none "
              "(DIBSOCK_SPIN_US)");
  if (!known.parse(given)) return 0;
  if (known.rest().empty()) throw usage_error("no command is given");

  if (known.has("debug")) set_variable("DIBSOCK_LOG", "1");
  if (const auto directory = known.text("fabric")) {
    set_variable("DIBSOCK_FABRIC", checked_fabric(*directory));
  }
  if (const auto list = known.text("ueid")) {
    check_ueids(*list);
    set_variable("DIBSOCK_UEID", *list);
  }
  if (const auto text = known.text("buffer")) {
    set_variable("DIBSOCK_BUFFER", std::to_string(size_in_range("buffer", *text, dibs::min_dmb_size,
                                                                dibs::max_dmb_size)));
  }
  if (const auto text = known.text("spin-us")) {
    set_variable("DIBSOCK_SPIN_US",
                 std::to_string(size_in_range("spin-us", *text, 0, max_spin_us)));
  }
  check_environment();
  const std::string preload = preload_list(real_path(find_library()));
  if (is_worth_preloading(known.rest()[0])) set_variable("LD_PRELOAD", preload);
  return become(known.rest());
}

}  // namespace tools
