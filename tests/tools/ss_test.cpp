// SPDX-License-Identifier: Apache-2.0
// `dibsock ss` against fabrics that this test prepares.
#include <tools/snapshot.hpp>
// first, to prove that it stands alone
#include <doctest/doctest.h>

#include <smcd/home.hpp>
#include <support/child_process.hpp>
#include <support/random.hpp>
#include <support/two_ends.hpp>

#include <boost/json.hpp>

#include "tool.hpp"

#include <sys/file.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

using support::run_tool;
using support::tool_result;
using support::words;

namespace {

tool_result ss(const support::scratch_fabric& in, words options = {}) {
  options.insert(options.begin(), {"ss", "--fabric", in.directory()});
  return run_tool(options);
}

void replace_all(std::string& in, const std::string& what, const std::string& by) {
  for (std::size_t at = in.find(what); at != std::string::npos; at = in.find(what, at)) {
    in.replace(at, what.size(), by);
    at += by.size();
  }
}

std::string hex(std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%016llx", static_cast<unsigned long long>(value));
  return text;
}

// Names for what differs from run to run, and one blank between columns.
struct golden {
  std::vector<std::pair<std::string, std::string>> names;

  void name_device(const dibs::gid& id, const std::string& name) {
    names.emplace_back(dibs::to_text(id).data(), name);
  }
  std::string operator()(std::string text) const {
    for (const auto& [what, name] : names) replace_all(text, what, name);
    replace_all(text, std::to_string(::getpid()), "PID");
    replace_all(text, "tools_tests", "TEST");
    std::string narrow;
    for (const char c : text) {
      if (c != ' ' || narrow.empty() || narrow.back() != ' ') narrow += c;
    }
    return narrow;
  }
};

std::string uid() { return std::to_string(::geteuid()); }

std::string port_of(const dibs::inet_address& address) { return std::to_string(address.port); }

// Connections of one client process and one server process, in this process.
struct scene {
  scene() {
    say.name_device(stacks.of_client().self().gid, "CLIENT");
    say.name_device(stacks.of_server().self().gid, "SERVER");
  }

  support::two_ends& add(const support::ends_options& how = {}) {
    ends.push_back(std::make_unique<support::two_ends>(stacks, how));
    say.names.emplace_back("127.0.0.1:" + port_of(ends.back()->client.connection.state().local),
                           "client:" + std::to_string(ends.size()));
    say.names.emplace_back("\"peer_port\":" + port_of(ends.back()->client.connection.state().local),
                           "\"peer_port\":PORT");
    say.names.emplace_back(
        "\"local_port\":" + port_of(ends.back()->client.connection.state().local),
        "\"local_port\":PORT");
    return *ends.back();
  }

  support::two_stacks stacks;
  std::vector<std::unique_ptr<support::two_ends>> ends;
  golden say;
};

std::vector<std::string> sorted_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  // Two devices of one process stand in the order of their random names.
  if (!lines.empty()) std::sort(lines.begin() + 1, lines.end());
  return lines;
}

using lines = std::vector<std::string>;

const std::string heading = "State UID Pid Command Local Address Peer Address Mode";
const std::string wide_heading =
    heading + " GID Token Peer-GID Peer-Token Linkid Tx-TCP Tx-DMB Rx-TCP Rx-DMB";

}  // namespace

TEST_CASE("ss: a fabric without anything in it gives headings, or an empty array") {
  const support::scratch_fabric fabric;
  const auto text = ss(fabric, {"-a"});
  CHECK(text.status == 0);
  CHECK(text.errors.empty());
  CHECK(text.output == "State  UID  Pid  Command  Local Address  Peer Address  Mode\n");
  CHECK(ss(fabric, {"--json"}).output == "[]\n");
  // Nothing came into being by looking.
  CHECK(fabric.files().empty());
}

TEST_CASE("ss: no fabric at all is no error, unless somebody names it") {
  const std::string nowhere = "/dev/shm/no-such-fabric";
  const auto unnamed = run_tool({"ss"}, {{"DIBSOCK_FABRIC", nowhere}});
  CHECK(unnamed.status == 0);
  CHECK(unnamed.output == "State  UID  Pid  Command  Local Address  Peer Address  Mode\n");
  CHECK(run_tool({"ss", "--json"}, {{"DIBSOCK_FABRIC", nowhere}}).output == "[]\n");
  const auto named = run_tool({"ss", "--fabric", nowhere});
  CHECK(named.status == 1);
  CHECK(named.output.empty());
  CHECK(named.errors ==
        "dibsock ss: no fabric at '/dev/shm/no-such-fabric': No such file or directory\n");
  CHECK(!std::filesystem::exists(nowhere));
}

TEST_CASE("ss: a name that is no fabric is an error") {
  const auto file = run_tool({"ss", "--fabric", "/etc/passwd"});
  CHECK(file.status == 1);
  CHECK(file.errors == "dibsock ss: no fabric at '/etc/passwd': it is no directory\n");
  CHECK(run_tool({"ss", "--fabric", ""}).status == 1);
  CHECK(run_tool({"ss", "--fabric"}).status == 1);
  CHECK(run_tool({"ss", "extra"}).status == 1);
  const support::scratch_fabric fabric;
  std::ofstream(fabric.directory() + "/rendezvous") << "of another version";
  const auto other = ss(fabric);
  CHECK(other.status == 1);
  CHECK(other.errors ==
        "dibsock ss: '" + fabric.directory() + "/rendezvous': the fabric cannot be used\n");
}

TEST_CASE("ss: both ends of an SMC-D connection, in short and with everything") {
  scene at;
  support::two_ends& pair = at.add();
  REQUIRE(pair.establish());
  REQUIRE(pair.client.write("hello").has_value());
  REQUIRE(pair.server.read_text() == "hello");
  const smcd::end_state& client = pair.client.connection.state();
  const smcd::end_state& server = pair.server.connection.state();
  at.say.names.emplace_back(hex(client.dmb_token), "TOKEN-C");
  at.say.names.emplace_back(hex(server.dmb_token), "TOKEN-S");

  const std::string who = " " + uid() + " PID TEST ";
  CHECK(sorted_lines(at.say(ss(at.stacks.fabric).output)) ==
        lines{heading, "ACTIVE" + who + "127.0.0.1:80 client:1 SMCD tx:dmb rx:dmb",
              "ACTIVE" + who + "client:1 127.0.0.1:80 SMCD tx:dmb rx:dmb"});
  const std::string tcp_client =
      std::to_string(client.sending.offset() - client.sending.dmb_bytes());
  const std::string tcp_server =
      std::to_string(server.sending.offset() - server.sending.dmb_bytes());
  CHECK(client.sending.dmb_bytes() == 5);
  CHECK(sorted_lines(at.say(ss(at.stacks.fabric, {"-a", "-D"}).output)) ==
        lines{wide_heading,
              "ACTIVE" + who +
                  "127.0.0.1:80 client:1 SMCD tx:dmb rx:dmb SERVER TOKEN-S CLIENT "
                  "TOKEN-C 00000100 " +
                  tcp_server + " 0 " + tcp_client + " 5",
              "ACTIVE" + who +
                  "client:1 127.0.0.1:80 SMCD tx:dmb rx:dmb CLIENT TOKEN-C SERVER "
                  "TOKEN-S 00000100 " +
                  tcp_client + " 5 " + tcp_server + " 0"});
  const std::string json = at.say(ss(at.stacks.fabric, {"--json"}).output);
  const std::string expected =
      R"({"state":"ACTIVE","uid":)" + uid() +
      R"(,"pid":PID,"command":"TEST","local_address":"127.0.0.1","local_port":PORT,)"
      R"("peer_address":"127.0.0.1","peer_port":80,"mode":"SMCD","stage":"established",)"
      R"("reason":null,"peer_reason":null,"gid":"CLIENT","token":"TOKEN-C","peer_gid":"SERVER",)"
      R"("peer_token":"TOKEN-S","link_id":"00000100",)"
      R"("tx":{"lane":"dmb","tcp_bytes":)" +
      tcp_client +
      R"(,"dmb_bytes":5},)"
      R"("rx":{"lane":"dmb","tcp_bytes":)" +
      tcp_server + R"(,"dmb_bytes":0}})";
  CAPTURE(json);
  CHECK(json.find(expected) != std::string::npos);
  CHECK(boost::json::parse(ss(at.stacks.fabric, {"--json"}).output).as_array().size() == 2);
}

TEST_CASE("ss: states follow both directions") {
  scene at;
  support::two_ends& pair = at.add();
  REQUIRE(pair.establish());
  const auto states = [&] {
    std::vector<std::string> found;
    for (const std::string& line : sorted_lines(at.say(ss(at.stacks.fabric).output))) {
      found.push_back(line.substr(0, line.find(' ')) +
                      (line.find(" client:1 127") != std::string::npos ? " client" : " server"));
    }
    found.erase(found.begin());
    return found;
  };
  CHECK(states() == lines{"ACTIVE server", "ACTIVE client"});
  pair.client.shutdown_write();
  CHECK(states() == lines{"APPCLOSEWAIT1 server", "PEERCLOSEWAIT1 client"});
  pair.server.shutdown_write();
  CHECK(states() == lines{"APPCLOSEWAIT2 server", "PEERCLOSEWAIT2 client"});
  static_cast<void>(pair.client.close());
  CHECK(states() == lines{"APPCLOSEWAIT2 server"});
  static_cast<void>(pair.server.close());
  CHECK(states().empty());
}

TEST_CASE("ss: an end whose peer closed waits for its program") {
  scene at;
  const auto state_at = [&] {
    const std::string text = ss(at.stacks.fabric).output;
    const std::size_t line = text.find('\n') + 1;
    return text.substr(line, text.find(' ', line) - line);
  };
  support::two_ends& first = at.add();
  REQUIRE(first.establish());
  static_cast<void>(first.client.close());
  CHECK(state_at() == "APPCLOSEWAIT1");
  static_cast<void>(first.server.close());

  support::two_ends& second = at.add();
  REQUIRE(second.establish());
  second.client.shutdown_write();
  static_cast<void>(second.server.close());
  CHECK(state_at() == "APPFINCLOSEWAIT");
}

TEST_CASE("ss: what is not SMC-D says why, or how far it is") {
  scene at;
  support::ends_options no_client;
  no_client.client_may_switch = false;
  static_cast<void>(at.add(no_client));
  static_cast<void>(at.add());
  const std::string who = " " + uid() + " PID TEST ";
  CHECK(sorted_lines(at.say(ss(at.stacks.fabric).output)) ==
        lines{heading,
              "ACTIVE" + who +
                  "client:1 127.0.0.1:80 TCP 0x03010000/0x00000000 (peer did not signal SMC)",
              "INIT" + who + "127.0.0.1:80 client:1 TCP (waits for the peer)",
              "INIT" + who + "127.0.0.1:80 client:2 TCP (waits for the peer)",
              "INIT" + who + "client:2 127.0.0.1:80 TCP (waits for the peer)"});
  // The first server gives up.
  support::two_ends& alone = *at.ends[0];
  alone.server.connection.stay_on_tcp(smcd::decline_code::peer_no_smc);
  const std::string text = at.say(ss(at.stacks.fabric).output);
  CHECK(text.find("127.0.0.1:80 client:1 TCP 0x03010000/0x00000000 (peer did not signal SMC)\n") !=
        std::string::npos);
  const std::string json = at.say(ss(at.stacks.fabric, {"--json"}).output);
  CHECK(json.find(R"("mode":"TCP","stage":"plain","reason":{"code":"0x03010000",)"
                  R"("text":"peer did not signal SMC"},"peer_reason":null,)") != std::string::npos);
  CHECK(json.find(R"("mode":"TCP","stage":"candidate","reason":null,"peer_reason":null,)"
                  R"("gid":"CLIENT","token":null,"peer_gid":null,"peer_token":null,)"
                  R"("link_id":null,)") != std::string::npos);
}

TEST_CASE("ss: listeners, of the living only") {
  scene at;
  const auto say = [&](const words& options) {
    return sorted_lines(at.say(ss(at.stacks.fabric, options).output));
  };
  static_cast<void>(at.add());
  dibs::rendezvous& meeting = at.stacks.of_server().meeting();
  const dibs::gid server = at.stacks.of_server().self().gid;
  meeting.withdraw_listener(meeting.find_listener(1, dibs::v4_address(0x7F000001, 80)));
  REQUIRE(meeting.publish_listener(1, dibs::v4_address(0, 80), server) != nullptr);
  dibs::inet_address v6;
  v6.bytes[15] = 1;
  v6.port = 443;
  dibs::listener_entry* second = meeting.publish_listener(1, v6, server);
  REQUIRE(second != nullptr);
  dibs::gid dead;
  dead.bytes[0] = 1;
  REQUIRE(meeting.publish_listener(1, dibs::v4_address(0, 81), dead) != nullptr);

  const std::string who = " " + uid() + " PID TEST ";
  CHECK(say({"-l"}) ==
        lines{heading, "LISTEN" + who + "0.0.0.0:80 - -", "LISTEN" + who + "[::1]:443 - -"});
  CHECK(say({}).size() == 3);
  CHECK(say({"-a"}).size() == 5);
  CHECK(say({"-l", "-D"}) == lines{wide_heading,
                                   "LISTEN" + who + "0.0.0.0:80 - - SERVER - - - - - - - -",
                                   "LISTEN" + who + "[::1]:443 - - SERVER - - - - - - - -"});
  CHECK(at.say(ss(at.stacks.fabric, {"-l", "--json"}).output)
            .find(R"({"state":"LISTEN","uid":)" + uid() +
                  R"(,"pid":PID,"command":"TEST","local_address":"::1","local_port":443,)"
                  R"("gid":"SERVER"})") != std::string::npos);
  meeting.withdraw_listener(second);
  CHECK(say({"-l"}).size() == 2);
}

TEST_CASE("ss: a dead device is not shown, and left to others to remove") {
  const support::scratch_fabric fabric;
  support::meeting_point meet;
  support::child_process other([&] {
    const auto stack = support::make_stack(fabric);
    meet.tell_parent();
    meet.await_parent();
    return 0;
  });
  meet.await_child();
  other.kill();
  const std::vector<std::string> before = fabric.files();
  CHECK(ss(fabric, {"-a", "--json"}).output == "[]\n");
  CHECK(fabric.files() == before);
}

// ---- hostile files -----------------------------------------------------------

namespace {

// A home file whose lock this test holds, so that its device seems to live.
class hostile_home {
 public:
  hostile_home(const support::scratch_fabric& in, const std::string& content) {
    dibs::gid id;
    id.bytes[0] = 0xEE;
    path_ = in.directory() + "/" + dibs::to_text(id).data() + ".home";
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd_ >= 0);
    REQUIRE(::flock(fd_, LOCK_EX) == 0);
    put(content);
  }
  hostile_home(const hostile_home&) = delete;
  hostile_home& operator=(const hostile_home&) = delete;
  ~hostile_home() { ::close(fd_); }

  void put(const std::string& content) const {
    REQUIRE(::pwrite(fd_, content.data(), content.size(), 0) ==
            static_cast<ssize_t>(content.size()));
  }
  void resize(std::size_t size) const { REQUIRE(::ftruncate(fd_, static_cast<off_t>(size)) == 0); }

 private:
  std::string path_;
  int fd_ = -1;
};

std::string content_of(const std::string& path, std::size_t most) {
  std::ifstream in(path, std::ios::binary);
  std::string content(most, '\0');
  in.read(content.data(), static_cast<std::streamsize>(most));
  content.resize(static_cast<std::size_t>(in.gcount()));
  return content;
}

void check_sane(const support::scratch_fabric& fabric) {
  for (const words& options : {words{"-a", "-D"}, words{"-a", "--json"}}) {
    const tool_result shown = ss(fabric, options);
    CHECK(shown.status == 0);
    CHECK(shown.errors.empty());
    CHECK(std::all_of(shown.output.begin(), shown.output.end(),
                      [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
    if (options.back() == "--json") {
      CHECK_NOTHROW(static_cast<void>(boost::json::parse(shown.output)));
    }
  }
}

}  // namespace

TEST_CASE("ss: a home full of nonsense harms nobody") {
  const support::two_stacks stacks;
  const dibs::fabric fabric = stacks.fabric.open();
  const std::string path = fabric.home_path(stacks.first->self().gid).data();
  const std::size_t full_size = std::filesystem::file_size(path);
  // As the real one begins: then the nonsense behind it is read.
  const std::string real = content_of(path, 4096);
  support::random random(7);
  for (int round = 0; round < 12; ++round) {
    CAPTURE(round);
    std::string content = real;
    content.resize(64 * 1024);
    const std::size_t first = round % 2 == 0 ? 8 : 4096;  // with or without the header
    for (std::size_t i = first; i < content.size(); ++i) {
      content[i] = static_cast<char>(random.next());
    }
    // Many slots and pages in use, and slots that say so.
    const std::uint32_t one = 1;
    const std::uint32_t many = round < 6 ? 0xFFFFFFFF : 16;
    std::memcpy(content.data() + offsetof(smcd::home_header, ends), &many, sizeof many);
    std::memset(content.data() + offsetof(smcd::home_header, reserved_pages), 0xFF, 512);
    for (std::size_t at = 4096; at < content.size(); at += smcd::home::slot_size) {
      std::memcpy(content.data() + at, &one, sizeof one);
    }
    const hostile_home home(stacks.fabric, content);
    home.resize(full_size);
    check_sane(stacks.fabric);
  }
}

TEST_CASE("ss: a rendezvous full of nonsense harms nobody") {
  const support::two_stacks stacks;
  const dibs::fabric real = stacks.fabric.open();
  const std::string home = content_of(real.home_path(stacks.first->self().gid).data(), 4096);
  std::string meeting = content_of(real.rendezvous_path().data(), std::size_t{16} * 1024 * 1024);
  support::random random(11);
  for (std::size_t i = 8; i < 512 * 1024; ++i) meeting[i] = static_cast<char>(random.next());
  // Every page and every listener in use, by a device that seems to live.
  std::memset(meeting.data() + 8, 0xFF, 512);
  const std::size_t listeners = 4096 + dibs::rendezvous::device_count * sizeof(dibs::device_entry);
  for (std::size_t i = 0; i < dibs::rendezvous::listener_count; ++i) {
    dibs::gid id;
    id.bytes[0] = 0xEE;
    char* const entry = meeting.data() + listeners + i * sizeof(dibs::listener_entry);
    entry[0] = 2;
    std::memcpy(entry + offsetof(dibs::listener_entry, device), &id, sizeof id);
  }
  const support::scratch_fabric strange;
  std::ofstream(strange.directory() + "/rendezvous", std::ios::binary) << meeting;
  const hostile_home living(strange, home);
  living.resize(std::filesystem::file_size(real.home_path(stacks.first->self().gid).data()));
  check_sane(strange);
  const auto shown = boost::json::parse(ss(strange, {"-l", "--json"}).output);
  CHECK(shown.as_array().size() == dibs::rendezvous::listener_count);
}

TEST_CASE("ss: a home of the wrong size or kind is not shown") {
  const support::two_stacks stacks;
  {
    const hostile_home home(stacks.fabric, "");
    check_sane(stacks.fabric);
    home.resize(4096);
    check_sane(stacks.fabric);
  }
  dibs::gid id;
  id.bytes[0] = 0xEF;
  const std::string name = stacks.fabric.directory() + "/" + dibs::to_text(id).data() + ".home";
  REQUIRE(::mkfifo(name.c_str(), 0600) == 0);
  check_sane(stacks.fabric);
  REQUIRE(::unlink(name.c_str()) == 0);
  REQUIRE(::symlink("/dev/zero", name.c_str()) == 0);
  check_sane(stacks.fabric);
  REQUIRE(::unlink(name.c_str()) == 0);
  REQUIRE(::mkdir(name.c_str(), 0700) == 0);
  check_sane(stacks.fabric);
}

TEST_CASE("ss: files that shrink while they are read are no crash") {
  const support::two_stacks stacks;
  const dibs::fabric fabric = stacks.fabric.open();
  const std::string path = fabric.home_path(stacks.first->self().gid).data();
  const std::size_t full_size = std::filesystem::file_size(path);
  std::string content = content_of(path, 4096);
  const std::uint32_t many = 4096;
  std::memcpy(content.data() + offsetof(smcd::home_header, ends), &many, sizeof many);
  std::memset(content.data() + offsetof(smcd::home_header, reserved_pages), 0xFF, 512);
  const hostile_home home(stacks.fabric, content);
  support::child_process shrinker([&] {
    for (;;) {
      home.resize(full_size);
      home.put(content);
      ::usleep(50);
      home.resize(4096);
      ::usleep(50);
    }
    return 0;
  });
  for (int i = 0; i < 40; ++i) check_sane(stacks.fabric);
}
