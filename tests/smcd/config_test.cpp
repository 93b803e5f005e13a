// SPDX-License-Identifier: Apache-2.0
#include <smcd/config.hpp>

#include <doctest/doctest.h>

#include <map>
#include <string>

using smcd::config;

namespace {

std::map<std::string, std::string> variables;

const char* look_up(const char* name) {
  const auto found = variables.find(name);
  return found == variables.end() ? nullptr : found->second.c_str();
}

config read(std::map<std::string, std::string> these) {
  variables = std::move(these);
  return smcd::read_config(look_up);
}

std::string complaint_about(const char* name, const std::string& value) {
  return read({{name, value}}).complaint.data();
}

}  // namespace

TEST_CASE("config: without variables all is at its default") {
  const config made = read({});
  const config fresh;
  CHECK(made.fabric[0] == '\0');
  CHECK(made.is_enabled);
  CHECK(!made.logs);
  CHECK(made.ueid_count == 1);
  CHECK(made.ueids[0] == smcd::default_ueid);
  CHECK(made.buffer_size == fresh.buffer_size);
  CHECK(made.spin_us == fresh.spin_us);
  CHECK(made.switch_calls == fresh.switch_calls);
  CHECK(made.switch_bytes == fresh.switch_bytes);
  CHECK(made.patience_us == fresh.patience_us);
  CHECK(made.complaint[0] == '\0');
}

TEST_CASE("config: every variable is heard") {
  const config made = read({{"DIBSOCK", "off"},
                            {"DIBSOCK_FABRIC", "/somewhere"},
                            {"DIBSOCK_LOG", "1"},
                            {"DIBSOCK_UEID", "FIRST,SECOND.ONE"},
                            {"DIBSOCK_BUFFER", "1m"},
                            {"DIBSOCK_SPIN_US", "0"},
                            {"DIBSOCK_SWITCH_CALLS", "1"},
                            {"DIBSOCK_SWITCH_BYTES", "64k"},
                            {"DIBSOCK_PATIENCE_US", "123"}});
  CHECK(!made.is_enabled);
  CHECK(std::string(made.fabric.data()) == "/somewhere");
  CHECK(made.logs);
  CHECK(made.ueid_count == 2);
  CHECK(made.ueids[0].text() == "FIRST");
  CHECK(made.ueids[1].text() == "SECOND.ONE");
  CHECK(made.buffer_size == 1 << 20);
  CHECK(made.spin_us == 0);
  CHECK(made.switch_calls == 1);
  CHECK(made.switch_bytes == 65536);
  CHECK(made.patience_us == 123);
  CHECK(made.complaint[0] == '\0');
}

TEST_CASE("config: a wrong value leaves the default and is complained of") {
  for (const char* wrong : {"", "x", "16383", "4194305", "5m", "0", "-1", "1kk", "1 k", " 16k",
                            "16k ", "999999999999999999999", "0x10000", "1e6"}) {
    INFO(wrong);
    const config made = read({{"DIBSOCK_BUFFER", wrong}});
    CHECK(made.buffer_size == config{}.buffer_size);
    CHECK(std::string(made.complaint.data()).find("DIBSOCK_BUFFER") == 0);
  }
  CHECK(complaint_about("DIBSOCK_BUFFER", "16384").empty());
  CHECK(complaint_about("DIBSOCK_BUFFER", "4M").empty());
  CHECK(!complaint_about("DIBSOCK_SPIN_US", "1000001").empty());
  CHECK(!complaint_about("DIBSOCK_LOG", "yes").empty());
  CHECK(!complaint_about("DIBSOCK", "2").empty());
  CHECK(read({{"DIBSOCK", "2"}}).is_enabled);
}

TEST_CASE("config: UEIDs are all taken or none") {
  CHECK(read({{"DIBSOCK_UEID", "A,B,C,D"}}).ueid_count == 4);
  for (const char* wrong : {"", "A,B,C,D,E", "a", "A,b", "A,,B", ",A", "A..B", "-A",
                            "THIS-IS-LONGER-THAN-32-CHARACTERS"}) {
    INFO(wrong);
    const config made = read({{"DIBSOCK_UEID", wrong}});
    CHECK(made.ueid_count == 1);
    CHECK(made.ueids[0] == smcd::default_ueid);
    CHECK(made.complaint[0] != '\0');
  }
}

TEST_CASE("config: a directory that is too long is refused whole") {
  const std::size_t room = config{}.fabric.size();
  CHECK(read({{"DIBSOCK_FABRIC", std::string(room - 1, 'x')}}).fabric[room - 2] == 'x');
  const config made = read({{"DIBSOCK_FABRIC", std::string(room, 'x')}});
  CHECK(made.fabric[0] == '\0');
  CHECK(made.complaint[0] != '\0');
}

TEST_CASE("config: size codes are the smallest that hold the size") {
  CHECK(smcd::size_code_for(0) == 0);
  CHECK(smcd::size_code_for(16384) == 0);
  CHECK(smcd::size_code_for(16385) == 1);
  CHECK(smcd::size_code_for(1 << 20) == 6);
  CHECK(smcd::size_code_for(4 << 20) == 8);
  CHECK(smcd::size_code_for(~std::uint64_t{0}) == 8);
  CHECK(smcd::size_of_code(0) == 16384);
  CHECK(smcd::size_of_code(8) == 4 << 20);
}
