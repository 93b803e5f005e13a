// SPDX-License-Identifier: Apache-2.0
#include <driver/run.hpp>

#include <driver/child.hpp>

#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace bench {
namespace {

constexpr std::chrono::seconds patience{20};

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

std::string runner::obstacle(const transport& who) const {
  if (::access((programs_ / who.program).c_str(), X_OK) != 0) {
    return std::string(who.program) + " was not built";
  }
  if (who.is_preloaded && ::access(preload_.c_str(), R_OK) != 0) {
    return "there is no " + preload_.native();
  }
  return {};
}

figures runner::measure(const transport& who, const question& what) const {
  const bool is_async = who.is_async || what.is_epoll;
  const auto command_for = [&](bool is_server, const std::string& address, int cpu) {
    command made;
    made.program = programs_ / who.program;
    made.arguments = {
        argument("role", is_server ? "server" : "client"),
        argument("family", std::string(who.family)),
        argument("address", address),
        argument("what", what.what == kind::ping     ? "ping"
                         : what.what == kind::stream ? "stream"
                                                     : "connect"),
        argument("async", is_async ? "1" : "0"),
        argument("shares_cpu", what.where == placement::together ? "1" : "0"),
        argument("leaves_tcp", who.must_be_smcd && what.what != kind::connect ? "1" : "0"),
        argument("size", std::to_string(what.size)),
        argument("warm_up_ms", std::to_string(wanted_.warm_up_ms)),
        argument("time_ms", std::to_string(wanted_.time_ms)),
        argument("rounds", std::to_string(wanted_.rounds)),
    };
    made.environment = {argument("DIBSOCK_FABRIC", scratch_.path() / "fabric")};
    if (who.is_preloaded && !(is_server && who.is_lone))
      made.environment.push_back(argument("LD_PRELOAD", preload_));
    made.cpu = cpu;
    return made;
  };
  const bool is_pinned = what.where != placement::free;
  const int server_cpu = is_pinned ? on_.first_cpu : -1;
  const int client_cpu = what.where == placement::apart ? on_.second_cpu.value() : server_cpu;
  const std::filesystem::path ring = scratch_.path() / "ring";
  std::filesystem::remove(ring);

  const auto until =
      clock::now() + patience + std::chrono::milliseconds(wanted_.time_ms + wanted_.warm_up_ms);
  child server(command_for(true, who.family == "ring" ? ring.native() : "", server_cpu));
  const auto ready = server.read_line(until);
  if (!ready || !ready->starts_with("ready ")) throw std::runtime_error("the server did not start");
  child client(command_for(false, ready->substr(6), client_cpu));
  figures found;
  take_figures(client, found, until);
  take_figures(server, found, until);
  if (found.contains("kernel_bytes") && found["payload"] > 0) {
    found["kernel_share"] = found["kernel_bytes"] / found["payload"];
  }
  return found;
}

}  // namespace bench
