// SPDX-License-Identifier: Apache-2.0
#include <transport/acceptor.hpp>

#include "ends.hpp"

#include <boost/asio/deferred.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <array>
#include <optional>
#include <utility>
#include <vector>

namespace {

using namespace support;

// ---- what has to compile ---------------------------------------------------

using context_socket = dibsock::basic_socket<asio::io_context::executor_type>;
using awaiting_acceptor = asio::use_awaitable_t<>::as_default_on_t<dibsock::acceptor>;

[[maybe_unused]] asio::awaitable<void> compile_default_token(awaiting_acceptor& from) {
  tcp::endpoint peer;
  auto first = co_await from.async_accept();
  co_await first.async_wait(first.wait_write);
  auto second = co_await from.async_accept(peer);
  co_await from.async_accept(first);
  co_await from.async_accept(second, peer);
}

[[maybe_unused]] void compile_all(asio::io_context& context, dibsock::acceptor& from) {
  error_code code;
  tcp::endpoint peer;
  dibsock::acceptor other(context, any_port(), false);
  dibsock::acceptor by_executor(context.get_executor(), any_port());
  dibsock::socket socket(context);
  from.accept(socket);
  from.accept(socket, code);
  from.accept(socket, peer);
  from.accept(socket, peer, code);
  socket = from.accept();
  socket = from.accept(code);
  socket = from.accept(peer);
  socket = from.accept(peer, code);
  socket = from.accept(context);
  socket = from.accept(context, code);
  socket = from.accept(context.get_executor(), peer);
  socket = from.accept(context.get_executor(), peer, code);
  context_socket narrow(from.accept(context));
  from.accept(narrow);
  from.async_accept(socket, asio::use_future).get();
  from.async_accept(socket, peer, asio::use_future).get();
  socket = from.async_accept(asio::use_future).get();
  socket = from.async_accept(peer, asio::use_future).get();
  socket = from.async_accept(context, asio::use_future).get();
  socket = from.async_accept(context, peer, asio::use_future).get();
  socket = from.async_accept(context.get_executor(), asio::use_future).get();
  socket = from.async_accept(context.get_executor(), peer, asio::use_future).get();
  from.async_accept(asio::deferred)([](error_code, dibsock::socket) {});
  from.wait(dibsock::acceptor::wait_read);
  from.non_blocking(true);
}

// ---- what it does ------------------------------------------------------------

TEST_CASE("acceptor: one that is not open answers bad_descriptor") {
  asio::io_context context;
  dibsock::acceptor closed(context);
  error_code code;
  CHECK_FALSE(closed.accept(code).is_open());
  CHECK(code == asio::error::bad_descriptor);
  CHECK(closed.listen(1, code) == asio::error::bad_descriptor);
  code = {};
  bool was_called = false;
  closed.async_accept([&](error_code why, dibsock::socket made) {
    was_called = true;
    code = why;
    CHECK_FALSE(made.is_open());
  });
  CHECK_FALSE(was_called);
  context.run();
  CHECK(code == asio::error::bad_descriptor);
}

TEST_CASE("acceptor: does not accept into a socket that is open") {
  asio::io_context context;
  dibsock::acceptor from(context, any_port());
  dibsock::socket open(context, tcp::v4());
  error_code code;
  CHECK(from.accept(open, code) == asio::error::already_open);
  from.async_accept(open, [&](error_code why) { code = why; });
  code = {};
  context.run();
  CHECK(code == asio::error::already_open);
}

TEST_CASE("acceptor: step by step, with options, and the address of the peer") {
  asio::io_context context;
  dibsock::acceptor from(context);
  from.open(tcp::v4());
  from.set_option(dibsock::acceptor::reuse_address(true));
  dibsock::acceptor::reuse_address reuses;
  from.get_option(reuses);
  CHECK(reuses.value());
  from.bind(any_port());
  from.listen();
  dibsock::socket client(context);
  client.connect(from.local_endpoint());
  tcp::endpoint peer;
  dibsock::socket server(from.accept(peer));
  CHECK(peer == client.local_endpoint());
  CHECK(server.remote_endpoint() == peer);
}

TEST_CASE("acceptor: async_accept gives what connects, in whatever form") {
  asio::io_context context;
  dibsock::acceptor from(context, any_port());
  std::vector<dibsock::socket> servers;
  servers.emplace_back(context);
  tcp::endpoint peer;
  int completed = 0;
  from.async_accept(servers[0], peer, [&](error_code code) {
    CHECK_FALSE(code);
    ++completed;
    from.async_accept([&](error_code why, dibsock::socket made) {
      CHECK_FALSE(why);
      ++completed;
      servers.push_back(std::move(made));
      from.async_accept(context, [&](error_code again, context_socket narrow) {
        CHECK_FALSE(again);
        ++completed;
        servers.emplace_back(std::move(narrow));
      });
    });
  });
  std::vector<dibsock::socket> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back(context);
    clients.back().async_connect(from.local_endpoint(), [](error_code code) { CHECK_FALSE(code); });
  }
  context.run();
  REQUIRE(completed == 3);
  CHECK(servers[0].remote_endpoint() == peer);
  for (auto& server : servers) asio::write(server, asio::buffer("hi", 2));
  for (auto& client : clients) {
    std::array<char, 2> to{};
    CHECK(asio::read(client, asio::buffer(to)) == 2);
  }
}

TEST_CASE("acceptor: a wildcard address and IPv6 meet their clients too") {
  asio::io_context context;
  tcp::endpoint at;
  tcp::endpoint to;
  SUBCASE("0.0.0.0") {
    at = {tcp::v4(), 0};
    to = {asio::ip::address_v4::loopback(), 0};
  }
  SUBCASE(":: for an IPv4 client") {
    at = {tcp::v6(), 0};
    to = {asio::ip::address_v4::loopback(), 0};
  }
  SUBCASE("::1") {
    at = {asio::ip::address_v6::loopback(), 0};
    to = at;
  }
  SUBCASE("a client of 0.0.0.0") {
    at = {tcp::v4(), 0};
    to = at;
  }
  dibsock::acceptor from(context);
  error_code code;
  if (from.open(at.protocol(), code) || from.bind(at, code)) {
    MESSAGE("skipped: no such addresses here");
    return;
  }
  from.listen();
  to.port(from.local_endpoint().port());
  two_sockets ends(context);
  ends.client.close();
  ends.server.close();
  ends.client.connect(to);
  from.accept(ends.server);
  ends.establish();
}

TEST_CASE("acceptor: once closed, its place is free and clients know") {
  asio::io_context context;
  dibsock::acceptor from(context, any_port());
  const tcp::endpoint at = from.local_endpoint();
  from.close();
  CHECK_FALSE(from.is_open());
  // A plain listener in the same place: nobody must take it for ours.
  tcp::acceptor plain(context, at);
  dibsock::socket client(context);
  client.connect(at);
  CHECK(may_be(client.fallback_reason() == smcd::decline_code::peer_no_smc));
  plain.close();
  from = dibsock::acceptor(context, at);
  dibsock::socket next(context);
  next.connect(at);
  CHECK(may_be(next.fallback_reason() == smcd::decline_code::none));
}

TEST_CASE("acceptor: plain and capable clients on one port, mixed") {
  asio::io_context context;
  dibsock::acceptor from(context, any_port());
  for (int i = 0; i < 20; ++i) {
    tcp::socket plain(context);
    dibsock::socket capable(context);
    plain.connect(from.local_endpoint());
    capable.connect(from.local_endpoint());
    dibsock::socket first(from.accept());
    dibsock::socket second(from.accept());
    for (int round = 0; round < 12; ++round) {
      std::array<char, 5> to{};
      asio::write(plain, asio::buffer("plain", 5));
      asio::write(capable, asio::buffer("smc-d", 5));
      asio::read(first, asio::buffer(to));
      CHECK(std::string_view(to.data(), 5) == "plain");
      asio::read(second, asio::buffer(to));
      CHECK(std::string_view(to.data(), 5) == "smc-d");
      asio::write(first, asio::buffer(to));
      asio::write(second, asio::buffer(to));
      asio::read(plain, asio::buffer(to));
      CHECK(std::string_view(to.data(), 5) == "smc-d");
      asio::read(capable, asio::buffer(to));
    }
    CHECK(first.mode() == dibsock::mode::tcp);
    CHECK(may_be(second.mode() == dibsock::mode::smcd));
    CHECK(may_be(capable.mode() == dibsock::mode::smcd));
    CHECK(plain.available() == 0);
  }
}

}  // namespace
