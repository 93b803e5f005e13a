// SPDX-License-Identifier: Apache-2.0
// `dibsock run`, as a user calls it.
#include <doctest/doctest.h>

#include <support/scratch_fabric.hpp>

#include "tool.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

using support::run_tool;
using support::scratch_directory;
using support::tool_result;
using support::variables;
using support::words;

namespace {

// With a library to load that stands beside no build.
tool_result run(words arguments, variables changes = {}) {
  arguments.insert(arguments.begin(), "run");
  changes.insert(changes.begin(), {"DIBSOCK_PRELOAD", EMPTY_LIBRARY});
  return run_tool(arguments, changes);
}

std::string variable(const std::string& name, words options, const variables& changes = {}) {
  options.insert(options.end(), {"printenv", name});
  return run(options, changes).output;
}

void write_script(const std::string& path, const std::string& content) {
  std::ofstream(path) << content;
  REQUIRE(::chmod(path.c_str(), 0755) == 0);
}

}  // namespace

TEST_CASE("run: the program gets its arguments, its output and its exit status") {
  const auto done = run({"--", "sh", "-c", "echo $0 $1; echo two >&2; exit 3", "a", "-d"});
  CHECK(done.output == "a -d\n");
  CHECK(done.errors == "two\n");
  CHECK(done.status == 3);
  CHECK(run({"echo", "--help", "-d"}).output == "--help -d\n");
}

TEST_CASE("run: exit statuses are those of env") {
  CHECK(run({"sh", "-c", "kill -9 $$"}).status == -9);
  const auto missing = run({"/nowhere/program"});
  CHECK(missing.status == 127);
  CHECK(missing.errors == "dibsock: cannot run '/nowhere/program': No such file or directory\n");
  CHECK(run({"no-such-command-anywhere"}).status == 127);
  CHECK(run({"/etc/passwd"}).status == 126);
  CHECK(run({"/"}).status == 126);
  CHECK(run({"--nothing"}).status == 125);
}

TEST_CASE("run: options become variables of the program") {
  CHECK(variable("LD_PRELOAD", {}) == EMPTY_LIBRARY "\n");
  CHECK(variable("DIBSOCK_LOG", {}).empty());
  CHECK(variable("DIBSOCK_LOG", {"-d"}) == "1\n");
  CHECK(variable("DIBSOCK_LOG", {"--debug"}) == "1\n");
  CHECK(variable("DIBSOCK_BUFFER", {"--buffer", "64k"}) == "65536\n");
  CHECK(variable("DIBSOCK_BUFFER", {"--buffer=4m"}) == "4194304\n");
  CHECK(variable("DIBSOCK_SPIN_US", {"--spin-us", "0"}) == "0\n");
  CHECK(variable("DIBSOCK_UEID", {"--ueid", "A,B-2.C"}) == "A,B-2.C\n");
  CHECK(variable("DIBSOCK_SPIN_US", {}, {{"DIBSOCK_SPIN_US", "7"}}) == "7\n");
}

TEST_CASE("run: a fabric is made, and its path survives a change of directory") {
  const scratch_directory scratch;
  const std::string path = scratch / "fabric";
  CHECK(variable("DIBSOCK_FABRIC", {"--fabric", path}) == path + "\n");
  CHECK(std::filesystem::is_directory(path));
  const auto relative =
      support::running_tool({"sh", "-c",
                             "cd " + (scratch / ".") + " && exec " + support::tool_program +
                                 " run --fabric fabric printenv DIBSOCK_FABRIC"},
                            {{"DIBSOCK_PRELOAD", EMPTY_LIBRARY}})
          .wait();
  CHECK(relative.output == path + "\n");
}

TEST_CASE("run: wrong options are refused before anything runs") {
  struct example {
    words options;
    const char* complaint;
  };
  const std::string long_path = "/tmp/" + std::string(250, 'x');
  for (const example& wrong : {
           example{{}, "no command is given"},
           example{{"-d", "--"}, "no command is given"},
           example{{"--nothing"}, "unrecognised option '--nothing'"},
           example{{"--buffer"}, "the required argument for option '--buffer' is missing"},
           example{{"--buffer", "8k", "echo"}, "--buffer '8k' is no number from 16384 to 4194304"},
           example{{"--buffer", "5m", "echo"}, "--buffer '5m' is no number"},
           example{{"--buffer", "64kb", "echo"}, "--buffer '64kb' is no number"},
           example{{"--spin-us", "-1", "echo"}, "--spin-us '-1' is no number from 0 to 1000000"},
           example{{"--spin-us", "1000001", "echo"}, "--spin-us '1000001' is no number"},
           example{{"--ueid", "lower", "echo"}, "--ueid 'lower' is no UEID"},
           example{{"--ueid", "A,,B", "echo"}, "--ueid '' is no UEID"},
           example{{"--ueid", "A,B,C,D,E", "echo"}, "at most 4 UEIDs"},
           example{{"--fabric", "", "echo"}, "--fabric names no directory"},
           example{{"--fabric", "/etc/passwd", "echo"}, "--fabric '/etc/passwd' is no directory"},
           example{{"--fabric", "/nowhere/at/all", "echo"}, "No such file or directory"},
           example{{"--fabric", long_path, "echo"}, "the fabric cannot be used"},
       }) {
    CAPTURE(wrong.complaint);
    const auto refused = run(wrong.options);
    CHECK(refused.status == 125);
    CHECK(refused.output.empty());
    CHECK(refused.errors.starts_with("dibsock run: "));
    CHECK(refused.errors.find(wrong.complaint) != std::string::npos);
  }
}

TEST_CASE("run: what is wrong in the environment is told, and the program runs") {
  const auto done = run({"echo", "ok"}, {{"DIBSOCK_BUFFER", "1"}});
  CHECK(done.output == "ok\n");
  CHECK(done.errors == "dibsock: DIBSOCK_BUFFER is no number in its range; the default is used\n");
  CHECK(run({"true"}, {{"DIBSOCK", "off"}}).errors ==
        "dibsock: DIBSOCK=off is set; everything stays on TCP\n");
}

TEST_CASE("run: the library comes behind what is preloaded already, once") {
  const scratch_directory scratch;
  const std::string other = scratch / "libother.so";
  std::filesystem::copy_file(EMPTY_LIBRARY, other);
  CHECK(variable("LD_PRELOAD", {}, {{"LD_PRELOAD", other}}) == other + ":" EMPTY_LIBRARY "\n");
  const std::string both = EMPTY_LIBRARY ":" + other;
  CHECK(variable("LD_PRELOAD", {}, {{"LD_PRELOAD", both}}) == both + "\n");
  const std::string blank = other + " " EMPTY_LIBRARY;
  CHECK(variable("LD_PRELOAD", {}, {{"LD_PRELOAD", blank}}) == blank + "\n");
  CHECK(variable("LD_PRELOAD", {support::tool_program, "run"}) == EMPTY_LIBRARY "\n");
}

TEST_CASE("run: a library that cannot be loaded is told before anything runs") {
  const scratch_directory scratch;
  const auto missing = run({"echo"}, {{"DIBSOCK_PRELOAD", "/nowhere/lib.so"}});
  CHECK(missing.status == 125);
  CHECK(missing.output.empty());
  CHECK(missing.errors ==
        "dibsock run: DIBSOCK_PRELOAD names '/nowhere/lib.so': No such file or directory\n");
  std::filesystem::copy_file(EMPTY_LIBRARY, scratch / "lib empty.so");
  const auto blank = run({"echo"}, {{"DIBSOCK_PRELOAD", scratch / "lib empty.so"}});
  CHECK(blank.status == 125);
  CHECK(blank.errors.find("LD_PRELOAD allows neither spaces nor colons") != std::string::npos);
}

TEST_CASE("run: the library is found beside the command") {
  // bin/dibsock and lib/libdibsock-preload.so, or both in one place.
  for (const char* place : {"lib", "bin", "lib64"}) {
    CAPTURE(place);
    const scratch_directory scratch;
    std::filesystem::create_directory(scratch / "bin");
    std::filesystem::create_directories(scratch / place);
    std::filesystem::copy_file(support::tool_program, scratch / "bin/dibsock");
    const std::string library = scratch / (std::string(place) + "/libdibsock-preload.so");
    std::filesystem::copy_file(EMPTY_LIBRARY, library);
    const auto done =
        support::running_tool({scratch / "bin/dibsock", "run", "printenv", "LD_PRELOAD"}).wait();
    CHECK(done.output == library + "\n");
  }
}

TEST_CASE("run: a static program is named, and runs") {
  const auto done = run({STATIC_PROGRAM});
  CHECK(done.status == 0);
  CHECK(done.output == "static\n");
  CHECK(done.errors == "dibsock: " STATIC_PROGRAM
                       " is statically linked and cannot be reached; it stays on TCP\n");
}

TEST_CASE("run: a script with a static interpreter is named with both") {
  const scratch_directory scratch;
  write_script(scratch / "script", "#!" STATIC_PROGRAM "\n");
  const auto done = run({scratch / "script"});
  CHECK(done.output == "static\n");
  CHECK(done.errors == "dibsock: " STATIC_PROGRAM ", the interpreter of " + (scratch / "script") +
                           ", is statically linked and cannot be reached; it stays on TCP\n");
  write_script(scratch / "shell", "#!/bin/sh\necho shell\n");
  const auto shell = run({scratch / "shell"});
  CHECK(shell.output == "shell\n");
  CHECK(shell.errors.empty());
  // No first line: the shell runs it, as execvp has it.
  write_script(scratch / "bare", "echo bare\n");
  CHECK(run({scratch / "bare"}).output == "bare\n");
}

TEST_CASE("run: a set-uid program is named, and runs") {
  const scratch_directory scratch;
  const std::string path = scratch / "program";
  std::filesystem::copy_file("/bin/echo", path);
  if (::chown(path.c_str(), 65534, 65534) != 0 || ::chmod(path.c_str(), 04755) != 0) {
    MESSAGE("not tried: only root can give a file away");
    return;
  }
  const auto done = run({path, "ok"});
  CHECK(done.output == "ok\n");
  CHECK(done.errors == "dibsock: " + path + " is set-uid and cannot be reached; it stays on TCP\n");
}
