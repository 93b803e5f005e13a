// SPDX-License-Identifier: Apache-2.0
#include <tools/options.hpp>
// first, to prove that it stands alone
#include <doctest/doctest.h>

#include "tool.hpp"

using support::run_tool;
using tools::arguments;
using tools::options;
using tools::usage_error;

TEST_CASE("options: sizes take the suffixes k and m, and nothing else") {
  CHECK(tools::parse_size("0") == 0);
  CHECK(tools::parse_size("64") == 64);
  CHECK(tools::parse_size("64k") == 65536);
  CHECK(tools::parse_size("3M") == 3 * 1024 * 1024);
  for (const char* wrong : {"", "k", "-1", "1g", "1kk", " 1", "1 ", "0x10", "99999999999999999999",
                            "99999999999999999m"}) {
    CAPTURE(wrong);
    CHECK(!tools::parse_size(wrong));
  }
}

TEST_CASE("options: a command ends them, and keeps what looks like one") {
  const auto rest_of = [](const arguments& given) {
    options known("test", options::others::end_options);
    known.flag("debug,d", "");
    known.value("size,s", "");
    REQUIRE(known.parse(given));
    return known.rest();
  };
  CHECK(rest_of({"-d", "ls", "-d", "--", "x"}) == arguments{"ls", "-d", "--", "x"});
  CHECK(rest_of({"--size", "ls", "sh"}) == arguments{"sh"});
  CHECK(rest_of({"--si", "ls", "sh"}) == arguments{"sh"});
  CHECK(rest_of({"--size=1", "ls"}) == arguments{"ls"});
  CHECK(rest_of({"-ds", "1", "ls"}) == arguments{"ls"});
  CHECK(rest_of({"-ds1", "ls"}) == arguments{"ls"});
  CHECK(rest_of({"-s", "debug", "ls"}) == arguments{"ls"});
  CHECK(rest_of({"--", "-d"}) == arguments{"-d"});
  CHECK(rest_of({"-d", "--", "--", "x"}) == arguments{"--", "x"});
  CHECK(rest_of({"-d"}).empty());
}

TEST_CASE("options: other arguments may stand among them") {
  options known("test");
  known.flag("json", "");
  known.value("port,p", "");
  REQUIRE(known.parse({"host", "--json", "-p", "1", "more", "--", "--last"}));
  CHECK(known.has("json"));
  CHECK(known.text("port") == "1");
  CHECK(known.rest() == arguments{"host", "more", "--last"});
}

TEST_CASE("options: what is wrong is said, and not guessed") {
  for (const arguments& wrong : {arguments{"--nothing"}, arguments{"-x"}, arguments{"--port"},
                                 arguments{"--json=1"}, arguments{"--p"}}) {
    options known("test");
    known.flag("json", "");
    known.value("port,p", "");
    known.value("path", "");
    CHECK_THROWS_AS(static_cast<void>(known.parse(wrong)), usage_error);
  }
}

TEST_CASE("dibsock: help and version go to the standard output") {
  const auto help = run_tool({"--help"});
  CHECK(help.status == 0);
  CHECK(help.output.starts_with("Usage: dibsock OBJECT"));
  CHECK(help.errors.empty());
  for (const char* object : {"run", "ss", "perf"}) {
    CHECK(help.output.find(std::string("\n  ") + object + " ") != std::string::npos);
    const auto own = run_tool({object, "--help"});
    CHECK(own.status == 0);
    CHECK(own.output.starts_with(std::string("Usage: dibsock ") + object));
  }
  CHECK(run_tool({"--version"}).output.starts_with("dibsock 0."));
}

TEST_CASE("dibsock: objects may be abbreviated as long as one is meant") {
  CHECK(run_tool({"r", "true"}, {{"DIBSOCK_PRELOAD", EMPTY_LIBRARY}}).status == 0);
  CHECK(run_tool({"s", "--help"}).output.starts_with("Usage: dibsock ss"));
  CHECK(run_tool({"per", "s", "--help"}).output.starts_with("Usage: dibsock perf server"));
  for (const char* wrong : {"x", "runs", ""}) {
    const auto refused = run_tool({wrong});
    CHECK(refused.status == 1);
    CHECK(refused.errors ==
          "dibsock: there is no object '" + std::string(wrong) + "'; see dibsock --help\n");
  }
  CHECK(run_tool({}).status == 1);
}

TEST_CASE("dibsock: output that nobody takes is a failure") {
  CHECK(support::running_tool(
            {"sh", "-c", std::string(support::tool_program) + " --help > /dev/full"})
            .wait()
            .status == 1);
}
