// SPDX-License-Identifier: Apache-2.0
// Many bytes, both ways, and how streams end.
#include <transport/socket.hpp>

#include "ends.hpp"

#include <array>
#include <functional>
#include <thread>

namespace {

using namespace support;

// Writes all of a string and reads until the end of the stream, in pieces of
// sizes that nobody would choose.
class pump {
 public:
  pump(dibsock::socket& on, std::string send, std::uint64_t seed)
      : on_(on), send_(std::move(send)), choose_(seed) {}

  void start() {
    write();
    read();
  }
  [[nodiscard]] const std::string& received() const { return received_; }
  [[nodiscard]] bool is_done() const { return has_sent_ && has_received_; }

 private:
  void write() {
    if (sent_ == send_.size()) {
      has_sent_ = true;
      on_.shutdown(dibsock::socket::shutdown_send);
      return;
    }
    const std::size_t size = std::min(send_.size() - sent_, 1 + choose_.up_to(300'000));
    on_.async_write_some(asio::buffer(send_.data() + sent_, size),
                         [this](error_code code, std::size_t n) {
                           REQUIRE_FALSE(code);
                           sent_ += n;
                           write();
                         });
  }
  void read() {
    part_.resize(1 + choose_.up_to(300'000));
    on_.async_read_some(asio::buffer(part_), [this](error_code code, std::size_t n) {
      received_.append(part_, 0, n);
      if (code == asio::error::eof) {
        has_received_ = true;
        return;
      }
      REQUIRE_FALSE(code);
      read();
    });
  }

  dibsock::socket& on_;
  std::string send_;
  std::string part_;
  std::string received_;
  support::random choose_;
  std::size_t sent_ = 0;
  bool has_sent_ = false;
  bool has_received_ = false;
};

TEST_CASE("transfer: megabytes both ways at once arrive unchanged") {
  asio::io_context context;
  two_sockets ends(context);
  SUBCASE("while the handshake goes on") {}
  SUBCASE("over SMC-D") { ends.establish(); }
  const std::string up = random_bytes(6'000'000, 1);
  const std::string down = random_bytes(5'000'000, 2);
  pump client(ends.client, up, 3);
  pump server(ends.server, down, 4);
  client.start();
  server.start();
  context.run();
  CHECK(client.is_done());
  CHECK(server.is_done());
  CHECK(server.received() == up);
  CHECK(client.received() == down);
}

TEST_CASE("transfer: the same between threads that wait") {
  asio::io_context context;
  two_sockets ends(context);
  SUBCASE("while the handshake goes on") {}
  SUBCASE("over SMC-D") { ends.establish(); }
  const std::string up = random_bytes(6'000'000, 5);
  std::thread writer([&] {
    asio::write(ends.client, asio::buffer(up));
    ends.client.shutdown(dibsock::socket::shutdown_send);
    char byte = 0;
    asio::read(ends.client, asio::buffer(&byte, 1));
  });
  std::string got(up.size(), '\0');
  asio::read(ends.server, asio::buffer(got));
  asio::write(ends.server, asio::buffer("x", 1));
  writer.join();
  CHECK(got == up);
}

TEST_CASE("transfer: what TCP takes without a reader, SMC-D takes too") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  const std::string sent = random_bytes(1'500'000, 6);
  CHECK(asio::write(ends.client, asio::buffer(sent)) == sent.size());
  std::string got(sent.size(), '\0');
  asio::read(ends.server, asio::buffer(got));
  CHECK(got == sent);
}

TEST_CASE("transfer: half closed, the other direction goes on") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  asio::write(ends.client, asio::buffer("last words", 10));
  ends.client.shutdown(dibsock::socket::shutdown_send);
  std::array<char, 64> to{};
  error_code code;
  CHECK(asio::read(ends.server, asio::buffer(to), code) == 10);
  CHECK(code == asio::error::eof);
  ends.server.read_some(asio::buffer(to), code);
  CHECK(code == asio::error::eof);
  for (int i = 0; i < 100; ++i) asio::write(ends.server, asio::buffer("an answer", 9));
  ends.server.shutdown(dibsock::socket::shutdown_send);
  std::string answer;
  asio::read(ends.client, asio::dynamic_buffer(answer), code);
  CHECK(code == asio::error::eof);
  CHECK(answer.size() == 900);
  ends.client.write_some(asio::buffer("x", 1), code);
  CHECK(code == asio::error::broken_pipe);
}

TEST_CASE("transfer: who shut both directions takes no more") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  ends.client.shutdown(dibsock::socket::shutdown_both);
  char byte = 0;
  error_code code;
  ends.server.read_some(asio::buffer(&byte, 1), code);
  CHECK(code == asio::error::eof);
  // TCP takes the first one.
  ends.server.write_some(asio::buffer("x", 1), code);
  ends.server.write_some(asio::buffer("x", 1), code);
  CHECK(code == asio::error::broken_pipe);
}

TEST_CASE("transfer: bytes written before a close are read after it") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  const std::string sent = random_bytes(100'000, 7);
  asio::write(ends.client, asio::buffer(sent));
  ends.client.close();
  std::string got;
  error_code code;
  asio::read(ends.server, asio::dynamic_buffer(got), code);
  CHECK(code == asio::error::eof);
  CHECK(got == sent);
}

TEST_CASE("transfer: a close over unread bytes resets, as TCP does") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  asio::write(ends.server, asio::buffer("unread", 6));
  error_code reading;
  std::array<char, 8> to{};
  ends.server.async_read_some(asio::buffer(to),
                              [&](error_code why, std::size_t) { reading = why; });
  ends.client.close();
  context.run();
  CHECK(reading == asio::error::connection_reset);
}

TEST_CASE("transfer: a waiting read learns of the end, and a waiting write of the death") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  error_code reading;
  std::array<char, 8> to{};
  ends.server.async_read_some(asio::buffer(to),
                              [&](error_code why, std::size_t) { reading = why; });
  context.poll();
  ends.client.close();
  context.run();
  CHECK(reading == asio::error::eof);

  two_smcd_sockets others(context);
  const std::string much(64 * 1024 * 1024, 'x');
  error_code writing;
  asio::async_write(others.client, asio::buffer(much),
                    [&](error_code why, std::size_t) { writing = why; });
  context.restart();
  context.poll();
  others.server.close();
  context.run();
  const bool is_dead =
      writing == asio::error::connection_reset || writing == asio::error::broken_pipe;
  CHECK_MESSAGE(is_dead, writing.message());
}

// ---- beside plain TCP --------------------------------------------------------

// The whole of what the other end sends, and nothing but that.
void check_exchange(std::function<std::string()> ours, std::function<std::string()> theirs,
                    const std::string& to_them, const std::string& to_us) {
  std::string got;
  std::thread other([&] { got = theirs(); });
  CHECK(ours() == to_us);
  other.join();
  CHECK(got == to_them);
}

template <class Socket>
std::string talk(Socket& on, const std::string& send) {
  for (std::size_t at = 0; at < send.size();) {
    const std::size_t size = std::min<std::size_t>(send.size() - at, 1000);
    at += asio::write(on, asio::buffer(send.data() + at, size));
  }
  on.shutdown(Socket::shutdown_send);
  std::string got;
  error_code code;
  asio::read(on, asio::dynamic_buffer(got), code);
  CHECK(code == asio::error::eof);
  return got;
}

TEST_CASE("transfer: a plain TCP server gets our bytes and no other") {
  asio::io_context context;
  tcp::acceptor listener(context, any_port());
  dibsock::socket client(context);
  client.connect(listener.local_endpoint());
  tcp::socket server(listener.accept());
  const std::string up = random_bytes(200'000, 8);
  const std::string down = random_bytes(100'000, 9);
  check_exchange([&] { return talk(client, up); }, [&] { return talk(server, down); }, up, down);
  CHECK(client.mode() == dibsock::mode::tcp);
  CHECK(may_be(client.fallback_reason() == smcd::decline_code::peer_no_smc));
}

TEST_CASE("transfer: a plain TCP client is served at once, with our bytes and no other") {
  asio::io_context context;
  dibsock::acceptor listener(context, any_port());
  tcp::socket client(context);
  client.connect(listener.local_endpoint());
  dibsock::socket server(listener.accept());
  const std::string up = random_bytes(200'000, 10);
  const std::string down = random_bytes(100'000, 11);
  check_exchange([&] { return talk(server, down); }, [&] { return talk(client, up); }, down, up);
  CHECK(server.mode() == dibsock::mode::tcp);
}

}  // namespace
