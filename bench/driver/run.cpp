// SPDX-License-Identifier: Apache-2.0
#include <driver/run.hpp>

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace bench {
namespace {

constexpr std::chrono::seconds patience{20};
constexpr std::uint64_t idle_ms = 10'000;

// Lines "name number" until the worker ends, added to what is known.
void take_figures(child& from, figures& to, clock::time_point until) {
  while (const auto line = from.read_line(until)) {
    const std::size_t space = line->find(' ');
    if (space == std::string::npos) continue;
    to[line->substr(0, space)] += std::stod(line->substr(space + 1));
  }
  if (!from.ended_well()) throw std::runtime_error("a worker failed");
}

std::string argument(const char* name, const std::string& value) {
  return std::string(name) + "=" + value;
}
std::string argument(const char* name, std::uint64_t value) {
  return argument(name, std::to_string(value));
}

double value(const figures& of, const char* name) {
  const auto at = of.find(name);
  return at != of.end() ? at->second : 0;
}

// What follows from what the workers said.
void work_out(figures& found, const question& what) {
  if (found.contains("kernel_bytes") && value(found, "payload") > 0) {
    found["kernel_share"] = value(found, "kernel_bytes") / value(found, "payload");
  }
  // Programs tell how many there were at all, our workers how many in a second.
  const bool is_total = found.contains("cpu_s");
  const double seconds = value(found, is_total ? "cpu_s" : "cpu");
  const double operations = value(found, is_total ? "operations" : "per_second");
  if (operations <= 0 || seconds <= 0) return;
  if (what.is_flow) {
    const double bytes = operations * static_cast<double>(what.size);
    found["cpu_s_per_gib"] = seconds / bytes * 1073741824;
  }
  found["cpu_s_per_million"] = seconds / operations * 1e6;
}

}  // namespace

scratch::scratch() {
  const std::filesystem::path memory("/dev/shm");
  const auto base =
      std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
  std::string name = base / "dibsock-bench-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) {
    throw std::system_error(errno, std::system_category(), name);
  }
  path_ = name;
  ::chmod(name.c_str(), 0711);  // a program that runs as another user has its directory in it
}

scratch::~scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

runner::runner(const options& wanted, const machine& on)
    : wanted_(wanted),
      on_(on),
      programs_(std::filesystem::read_symlink("/proc/self/exe").parent_path()),
      preload_(wanted.preload.empty() ? programs_.parent_path() / "lib" / "libdibsock-preload.so"
                                      : std::filesystem::absolute(wanted.preload)) {}

std::string runner::obstacle(const transport& who) {
  if (::access((programs_ / who.program).c_str(), X_OK) != 0) {
    return std::string(who.program) + " was not built";
  }
  if (who.is_preloaded && ::access(preload_.c_str(), R_OK) != 0) {
    return "there is no " + preload_.native();
  }
  if (who.has_sockmap && !sockmap_) {
    try {
      sockmap_.emplace(programs_ / "dibsock-bench-sockmap.o");
    } catch (const std::runtime_error& failure) {
      return failure.what();
    }
  }
  return {};
}

std::string runner::obstacle(const question& what) const {
  if (what.where == placement::apart && !on_.second_cpu) return "there is but one CPU";
  if (!what.programs) return {};
  for (const std::string& program : what.programs->needs) {
    if (find_program(program).empty()) return "there is no " + program;
  }
  return {};
}

figures runner::measure(const transport& who, const question& what) {
  figures found = what.programs ? measure_programs(who, what) : measure_workers(who, what);
  work_out(found, what);
  return found;
}

command runner::base(const transport& who, const question& what, bool is_server,
                     const std::filesystem::path& fabric) const {
  command made;
  made.environment = {argument("DIBSOCK_FABRIC", fabric)};
  if (who.is_preloaded && !(is_server && who.is_lone)) {
    made.environment.push_back(argument("LD_PRELOAD", preload_));
  }
  if (who.has_sockmap) made.membership = sockmap_.value().members();
  const placement where =
      what.programs && wanted_.is_pinned && on_.second_cpu ? placement::apart : what.where;
  if (where == placement::apart) {
    made.cpu = is_server ? on_.first_cpu : on_.second_cpu.value();
  } else if (where == placement::together) {
    made.cpu = on_.first_cpu;
  }
  return made;
}

command runner::worker(const transport& who, const question& what, bool is_server,
                       const std::string& address) const {
  command made = base(who, what, is_server, scratch_.path() / "fabric");
  made.program = programs_ / who.program;
  // Long gaps make few rounds.
  const std::uint64_t time_ms =
      wanted_.is_quick ? wanted_.time_ms
                       : std::max<std::uint64_t>(wanted_.time_ms, what.gap_us * 60ULL / 1000);
  const bool is_async = who.is_async || what.is_epoll;
  made.arguments = {
      argument("role", is_server ? "server" : "client"),
      argument("family", std::string(who.family)),
      argument("address", address),
      argument("what", std::string(name_of(what.what))),
      argument("async", is_async ? 1 : 0),
      argument("shares_cpu", what.where == placement::together ? 1 : 0),
      argument("leaves_tcp", who.must_be_smcd && what.promises_smcd() ? 1 : 0),
      argument("size", what.size),
      argument("gap_us", what.gap_us),
      argument("connections", what.connections),
      argument("active", what.active),
      argument("hold_ms", wanted_.is_quick ? 200 : idle_ms),
      argument("warm_up_ms", wanted_.warm_up_ms),
      argument("time_ms", time_ms),
      argument("rounds", what.gap_us > 0 ? wanted_.rounds / 30 : wanted_.rounds),
  };
  return made;
}

figures runner::measure_workers(const transport& who, const question& what) const {
  const std::filesystem::path ring = scratch_.path() / "ring";
  std::filesystem::remove(ring);
  const auto until =
      clock::now() + patience + std::chrono::milliseconds(wanted_.time_ms + wanted_.warm_up_ms);
  child server(worker(who, what, true, who.family == "ring" ? ring.native() : ""));
  const auto ready = server.read_line(until);
  if (!ready || !ready->starts_with("ready ")) throw std::runtime_error("the server did not start");
  child client(worker(who, what, false, ready->substr(6)));
  figures found;
  take_figures(client, found, until);
  take_figures(server, found, until);
  return found;
}

}  // namespace bench
