// SPDX-License-Identifier: Apache-2.0
// Measurements with programs of others.
#include <driver/run.hpp>

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <stdexcept>
#include <system_error>

namespace bench {
namespace {

constexpr std::chrono::seconds patience{60};

void be_program(command& made, const arguments& what) {
  made.program = find_program(what.at(0));
  if (made.program.empty()) throw std::runtime_error("there is no " + what[0]);
  made.arguments.assign(what.begin() + 1, what.end());
}

// Enough of an output to see what went wrong, in one line.
std::string end_of(std::string said) {
  constexpr std::size_t most = 200;
  if (said.size() > most) said.erase(0, said.size() - most);
  std::replace(said.begin(), said.end(), '\n', ' ');
  return said;
}

// The user to be, if we can choose.
std::string user_of(const program_pair& what) { return ::geteuid() == 0 ? what.user : ""; }

void wait_for_line(child& from, const std::string& part, clock::time_point until) {
  while (const auto line = from.read_line(until)) {
    if (line->find(part) != std::string::npos) return;
  }
  throw std::runtime_error("the server did not start");
}

void wait_for_listener(child& server, const meeting& at, clock::time_point until) {
  while (!is_listening(at.is_unix ? at.path : at.port)) {
    // Its output ends when it does.
    if (server.has_ended() || clock::now() > until || is_stopping()) {
      throw std::runtime_error("the server did not start");
    }
    ::usleep(2000);
  }
}

}  // namespace

std::filesystem::path runner::prepared(const program_pair& what) {
  std::filesystem::path directory = scratch_.path() / what.name;
  if (prepared_.contains(std::string(what.name))) return directory;
  std::filesystem::create_directory(directory);
  command made;
  made.user = user_of(what);
  if (const passwd* user = made.user.empty() ? nullptr : ::getpwnam(made.user.c_str())) {
    if (::chown(directory.c_str(), user->pw_uid, user->pw_gid) != 0) {
      throw std::system_error(errno, std::system_category(), directory);
    }
  }
  if (!what.prepare.empty()) {
    made.environment = {"PATH=" + program_path()};
    made.directory = directory;
    made.says_errors = true;
    be_program(made, {"sh", "-c", what.prepare});
    child shell(made);
    const std::string said = shell.read_all(clock::now() + patience);
    if (!shell.ended_well()) throw std::runtime_error("could not be prepared: " + end_of(said));
  }
  prepared_.insert(std::string(what.name));
  return directory;
}

figures runner::measure_programs(const transport& who, const question& what) {
  const program_pair& programs = what.programs.value();
  const std::filesystem::path directory = prepared(programs);
  const meeting at{.is_unix = who.family == "unix",
                   .port = std::to_string(free_port()),
                   .path = directory / "socket"};
  std::filesystem::remove(at.path);
  const auto start = [&](bool is_server, const arguments& line) {
    command made = base(who, what, is_server, directory / "fabric");
    made.environment.push_back("PATH=" + program_path());
    made.directory = directory;
    made.user = user_of(programs);
    made.says_errors = is_server;
    be_program(made, line);
    return made;
  };
  const auto until = clock::now() + patience;
  child server(start(true, programs.server(at)));
  if (programs.says_ready.empty()) {
    wait_for_listener(server, at, until);
  } else {
    wait_for_line(server, programs.says_ready, until);
  }
  const double server_before = server.cpu_seconds();
  const double clients_before = cpu_of_children();
  const std::uint64_t lo_before = lo_bytes();
  child client(start(false, programs.client(at)));
  const std::string said = client.read_all(until);
  if (!client.ended_well())
    throw std::runtime_error(programs.needs.back() + " failed: " + end_of(said));
  const double cpu = cpu_of_children() - clients_before + server.cpu_seconds() - server_before;
  const double bytes = static_cast<double>(lo_bytes() - lo_before);
  server.stop();

  figures found = programs.read(said);
  if (!found.contains("per_second"))
    throw std::runtime_error(programs.needs.back() + " told no figures: " + end_of(said));
  found["cpu_s"] = cpu;
  if (found.contains("operations")) found["lo_bytes_per_operation"] = bytes / found["operations"];
  return found;
}

}  // namespace bench
