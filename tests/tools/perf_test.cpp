// SPDX-License-Identifier: Apache-2.0
// `dibsock perf` between processes.
#include <tools/perf/protocol.hpp>
// first, to prove that it stands alone
#include <doctest/doctest.h>

#include <boost/json.hpp>

#include <support/scratch_fabric.hpp>

#include "tool.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>

using support::run_tool;
using support::running_tool;
using support::scratch_directory;
using support::tool_result;
using support::variables;
using support::words;
using namespace tools::perf;

namespace {

words server_command(words options) {
  options.insert(options.begin(), {support::tool_program, "perf", "server"});
  return options;
}

// A server on a port that the system chose.
struct tcp_server : running_tool {
  explicit tcp_server(const std::string& transport = "tcp", words more = {},
                      const variables& changes = {})
      : running_tool(server_command([&] {
                       more.insert(more.end(), {"--transport", transport, "--bind", "127.0.0.1",
                                                "--port", "0"});
                       return more;
                     }()),
                     changes) {
    const std::string said = await_output(")\n");
    REQUIRE(said.starts_with("listening on 127.0.0.1:"));
    port = said.substr(23, said.find(' ', 23) - 23);
  }
  std::string port;
};

boost::json::object result_of(const tool_result& done) {
  CAPTURE(done.errors);
  REQUIRE(done.status == 0);
  return boost::json::parse(done.output).as_object();
}

class raw_client {
 public:
  explicit raw_client(const std::string& port)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  }
  raw_client(const raw_client&) = delete;
  raw_client& operator=(const raw_client&) = delete;
  ~raw_client() { ::close(fd_); }

  void send(const void* from, std::size_t size) {
    REQUIRE(::send(fd_, from, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size));
  }
  // Up to `size` bytes; fewer at the end of the stream.
  std::size_t receive(void* to, std::size_t size) {
    const ssize_t n = ::recv(fd_, to, size, MSG_WAITALL);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }

 private:
  int fd_;
};

}  // namespace

TEST_CASE("perf: a request is judged by its version and its parameters") {
  request asked;
  asked.kind.store(1);
  asked.size.store(64);
  CHECK(judge(asked) == verdict::accepted);
  asked.kind.store(3);
  CHECK(judge(asked) == verdict::wrong_parameters);
  asked.kind.store(2);
  asked.size.store(0);
  CHECK(judge(asked) == verdict::wrong_parameters);
  asked.size.store(max_message + 1);
  CHECK(judge(asked) == verdict::wrong_parameters);
  asked.version.store(2);
  CHECK(judge(asked) == verdict::wrong_version);
}

TEST_CASE("perf: streams and pings over tcp, one client after the other") {
  tcp_server server;
  for (const char* size : {"1", "100", "64k", "1m"}) {
    CAPTURE(size);
    const auto stream = result_of(run_tool({"perf", "client", "127.0.0.1", "-p", server.port, "-T",
                                            "tcp", "--time", "0.05", "--size", size, "--json"}));
    CHECK(stream.at("test") == "stream");
    CHECK(stream.at("transport") == "tcp");
    CHECK(stream.at("mode") == "TCP");
    CHECK(stream.at("bytes").to_number<std::int64_t>() ==
          stream.at("messages").to_number<std::int64_t>() *
              stream.at("size").to_number<std::int64_t>());
    CHECK(stream.at("bits_per_second").to_number<std::int64_t>() > 0);
    const auto ping =
        result_of(run_tool({"perf", "client", "127.0.0.1", "-p", server.port, "-T", "tcp", "--time",
                            "0.05", "--ping", "--size", size, "--json"}));
    CHECK(ping.at("test") == "ping");
    CHECK(ping.at("messages").to_number<std::int64_t>() > 0);
    const auto& times = ping.at("round_trip_ns").as_object();
    const auto time = [&](const char* name) { return times.at(name).to_number<std::int64_t>(); };
    CHECK(time("min") > 0);
    CHECK(time("min") <= time("p50"));
    CHECK(time("p50") <= time("p99"));
    CHECK(time("p99") <= time("p99_9"));
    CHECK(time("p99_9") <= time("max"));
  }
  server.signal(SIGINT);
  const auto done = server.wait();
  CHECK(done.status == 0);
  CHECK(done.errors.empty());
  CHECK(done.output.find("stream of 65536 byte messages for 50 ms\n") != std::string::npos);
}

TEST_CASE("perf: the text names what was measured") {
  tcp_server server;
  const words client{"perf", "client", "127.0.0.1", "-p",  server.port,
                     "-T",   "tcp",    "--time",    "0.05"};
  const auto stream = run_tool(client);
  CHECK(stream.status == 0);
  CHECK(stream.output.starts_with("stream of 131072 byte messages over tcp, "));
  for (const char* part : {" Gbit/s", " MB/s", " messages/s\n", "mode        TCP\n"}) {
    CHECK(stream.output.find(part) != std::string::npos);
  }
  words ping = client;
  ping.push_back("--ping");
  const auto pinged = run_tool(ping);
  CHECK(pinged.output.starts_with("ping of 64 byte messages over tcp, "));
  for (const char* part : {"  min ", "  p50 ", "  p99 ", "  p99.9 ", "  max ", " us  ("}) {
    CHECK(pinged.output.find(part) != std::string::npos);
  }
}

TEST_CASE("perf: over the native API bytes leave TCP, and a plain client is served too") {
  const support::scratch_fabric fabric;
  const variables environment{{"DIBSOCK_FABRIC", fabric.directory()}};
  tcp_server server("smcd", {}, environment);
  for (const char* kind : {"--stream", "--ping"}) {
    const words client{"perf", "client", "127.0.0.1", "-p",    server.port,
                       kind,   "--time", "0.2",       "--json"};
    CHECK(result_of(run_tool(client, environment)).at("mode") == "SMCD");
    words plain = client;
    plain.insert(plain.end(), {"--transport", "tcp"});
    CHECK(result_of(run_tool(plain, environment)).at("mode") == "TCP");
    // A client on another fabric is a plain one.
    const support::scratch_fabric other;
    const auto apart = result_of(run_tool(client, {{"DIBSOCK_FABRIC", other.directory()}}));
    CHECK(apart.at("mode").as_string().starts_with("TCP"));
  }
  server.signal(SIGINT);
  CHECK(server.wait().status == 0);
  // Nobody is left behind.
  CHECK(fabric.count_files(".home") == 0);
}

TEST_CASE("perf: over a UNIX socket whose file goes with the server") {
  const scratch_directory scratch;
  const std::string path = scratch / "socket";
  running_tool server(server_command({"--transport", "unix", "--bind", path}));
  CHECK(server.await_output(")\n") == "listening on " + path + " (unix)\n");
  const auto done = result_of(run_tool(
      {"perf", "client", path, "--transport", "unix", "--time", "0.05", "--ping", "--json"}));
  CHECK(done.at("mode") == "UNIX");
  server.signal(SIGTERM);
  CHECK(server.wait().status == 0);
  CHECK(!std::filesystem::exists(path));
}

TEST_CASE("perf: strangers and clients of another version do not stop the server") {
  tcp_server server;
  char answered[sizeof(answer) + 1];
  {
    raw_client stranger(server.port);
    const std::string text = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stranger.send(text.data(), text.size());
    CHECK(stranger.receive(answered, sizeof answered) == 0);
  }
  {
    raw_client other(server.port);
    request asked;
    asked.version.store(9);
    other.send(&asked, sizeof asked);
    REQUIRE(other.receive(answered, sizeof answered) == sizeof(answer));
    answer said;
    std::memcpy(&said, answered, sizeof said);
    CHECK(is_ours(said.magic));
    CHECK(said.what.load() == static_cast<std::uint16_t>(verdict::wrong_version));
  }
  { raw_client silent(server.port); }
  CHECK(run_tool({"perf", "client", "127.0.0.1", "-p", server.port, "-T", "tcp", "--time", "0.05"})
            .status == 0);
}

TEST_CASE("perf: with -P clients are served at the same time") {
  tcp_server server("tcp", {"-P"});
  raw_client waiting(server.port);  // alone it would hold the others up
  const words client{support::tool_program, "perf", "client", "127.0.0.1", "-p",
                     server.port,           "-T",   "tcp",    "--time",    "0.1"};
  running_tool first(client);
  running_tool second(client);
  CHECK(first.wait().status == 0);
  CHECK(second.wait().status == 0);
  // It ends although somebody is still there.
  server.signal(SIGINT);
  CHECK(server.wait().status == 0);
}

TEST_CASE("perf: an interrupted client tells what it has measured") {
  tcp_server server;
  for (const char* kind : {"--stream", "--ping"}) {
    running_tool client({support::tool_program, "perf", "client", "127.0.0.1", "-p", server.port,
                         "-T", "tcp", "--time", "60", kind});
    // It has begun when the server says so.
    server.await_output(std::string(kind).substr(2) + " of ");
    ::usleep(20'000);
    // Twice at once is once: `timeout` signals a process and its group.
    client.signal(SIGINT);
    client.signal(SIGINT);
    const auto done = client.wait();
    CAPTURE(done.errors);
    CHECK(done.status == 0);
    CHECK(done.output.find(" over tcp, ") != std::string::npos);
  }
}

TEST_CASE("perf: what cannot be is said") {
  struct example {
    words arguments;
    const char* complaint;
  };
  for (const example& wrong : {
           example{{}, "say 'server' or 'client'"},
           example{{"both"}, "say 'server' or 'client'"},
           example{{"client"}, "exactly one HOST is needed"},
           example{{"client", "a", "b"}, "exactly one HOST is needed"},
           example{{"client", "a", "--ping", "--stream"}, "either --stream or --ping"},
           example{{"client", "a", "--size", "0"}, "--size '0' is no number"},
           example{{"client", "a", "--size", "65m"}, "--size '65m' is no number"},
           example{{"client", "a", "--time", "0"}, "--time '0' is no number of seconds"},
           example{{"client", "a", "--time", "1s"}, "--time '1s' is no number of seconds"},
           example{{"client", "a", "--port", "65536"}, "--port '65536' is no number"},
           example{{"client", "a", "--transport", "udp"}, "--transport 'udp' is neither"},
           example{{"server", "--transport", "tcp", "--bind", "name"}, "Invalid argument"},
           example{{"server", "--transport", "tcp", "--bind", "192.0.2.1"}, "cannot listen: "},
           example{{"server", "extra"}, "'extra' is not understood"},
       }) {
    CAPTURE(wrong.complaint);
    words arguments = wrong.arguments;
    arguments.insert(arguments.begin(), "perf");
    const auto refused = run_tool(arguments);
    CHECK(refused.status == 1);
    CHECK(refused.output.empty());
    CHECK(refused.errors.starts_with("dibsock perf: "));
    CAPTURE(refused.errors);
    CHECK(refused.errors.find(wrong.complaint) != std::string::npos);
  }
  tcp_server server;
  const std::string port = server.port;
  server.signal(SIGINT);
  server.wait();
  const auto refused = run_tool({"perf", "client", "127.0.0.1", "-p", port, "-T", "tcp"});
  CHECK(refused.status == 1);
  CHECK(refused.errors == "dibsock perf: cannot connect: Connection refused\n");
}
