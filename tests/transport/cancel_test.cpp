// SPDX-License-Identifier: Apache-2.0
// Operations that end before their time, by signal, cancel(), close() and the
// end of their context.
#include <transport/socket.hpp>

#include "ends.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace {

using namespace support;
using asio::cancellation_type;

constexpr cancellation_type all_types[] = {cancellation_type::terminal, cancellation_type::partial,
                                           cancellation_type::total};

struct stopped {
  std::optional<error_code> code;
  std::size_t size = 0;

  auto handler() {
    return [this](error_code why, std::size_t n = 0) {
      CHECK_FALSE(code);
      code = why;
      size = n;
    };
  }
};

TEST_CASE("cancel: a waiting read ends by signal of any type, and loses nothing") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  for (const cancellation_type type : all_types) {
    for (const bool is_parked : {false, true}) {
      asio::cancellation_signal signal;
      stopped read;
      std::array<char, 8> to{};
      ends.server.async_read_some(asio::buffer(to),
                                  asio::bind_cancellation_slot(signal.slot(), read.handler()));
      context.restart();
      if (is_parked) context.poll();
      signal.emit(type);
      CHECK_FALSE(read.code);
      context.run();
      CHECK(read.code == asio::error::operation_aborted);
      ends.client.write_some(asio::buffer("kept", 4));
      CHECK(ends.server.read_some(asio::buffer(to)) == 4);
    }
  }
}

TEST_CASE("cancel: a signal that comes too late changes nothing") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  ends.client.write_some(asio::buffer("here", 4));
  asio::cancellation_signal signal;
  stopped read;
  std::array<char, 8> to{};
  ends.server.async_read_some(asio::buffer(to),
                              asio::bind_cancellation_slot(signal.slot(), read.handler()));
  signal.emit(cancellation_type::all);
  context.run();
  CHECK(read.code == error_code());
  CHECK(read.size == 4);
  signal.emit(cancellation_type::all);
}

TEST_CASE("cancel: a read on plain TCP ends by signal, too") {
  asio::io_context context;
  tcp::acceptor listener(context, any_port());
  dibsock::socket client(context);
  client.connect(listener.local_endpoint());
  tcp::socket server(listener.accept());
  asio::cancellation_signal signal;
  stopped read;
  std::array<char, 8> to{};
  client.async_read_some(asio::buffer(to),
                         asio::bind_cancellation_slot(signal.slot(), read.handler()));
  context.poll();
  signal.emit(cancellation_type::total);
  context.run();
  CHECK(read.code == asio::error::operation_aborted);
  asio::write(server, asio::buffer("kept", 4));
  CHECK(client.read_some(asio::buffer(to)) == 4);
}

TEST_CASE("cancel: a write without a reader ends, and what it said it wrote arrives") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  const std::string much = random_bytes(32 * 1024 * 1024, 1);
  asio::cancellation_signal signal;
  stopped write;
  asio::async_write(ends.client, asio::buffer(much),
                    asio::bind_cancellation_slot(signal.slot(), write.handler()));
  context.poll();
  signal.emit(cancellation_type::partial);
  context.run();
  CHECK(write.code == asio::error::operation_aborted);
  CHECK(write.size < much.size());
  ends.client.shutdown(dibsock::socket::shutdown_send);
  std::string got;
  error_code code;
  asio::read(ends.server, asio::dynamic_buffer(got), code);
  CHECK(code == asio::error::eof);
  CHECK(got == much.substr(0, write.size));
}

// A listener that takes no connection any more.
template <class Acceptor>
struct full_listener {
  explicit full_listener(asio::io_context& on) : listener(on) {
    listener.open(tcp::v4());
    listener.bind(any_port());
    listener.listen(0);
    for (int i = 0; i < 4; ++i) {
      waiting.emplace_back(on);
      waiting.back().async_connect(listener.local_endpoint(), [](error_code) {});
    }
    on.poll();
  }
  Acceptor listener;
  std::vector<tcp::socket> waiting;
};

TEST_CASE_TEMPLATE("cancel: a connect ends by signal, cancel and close", acceptor, tcp::acceptor,
                   dibsock::acceptor) {
  asio::io_context context;
  full_listener<acceptor> to(context);
  for (int way = 0; way < 5; ++way) {
    CAPTURE(way);
    asio::cancellation_signal signal;
    stopped connect;
    dibsock::socket client(context);
    client.async_connect(to.listener.local_endpoint(),
                         asio::bind_cancellation_slot(signal.slot(), connect.handler()));
    context.poll();
    REQUIRE_FALSE(connect.code);
    if (way < 3) signal.emit(all_types[way]);
    if (way == 3) client.cancel();
    if (way == 4) client.close();
    while (!connect.code) context.run_one();
    CHECK(connect.code == asio::error::operation_aborted);
  }
}

TEST_CASE_TEMPLATE("cancel: a connect that had to wait ends as the listener does", acceptor,
                   tcp::acceptor, dibsock::acceptor) {
  asio::io_context context;
  full_listener<acceptor> taken(context);
  full_listener<acceptor> closed(context);
  stopped success;
  stopped failure;
  dibsock::socket client(context);
  dibsock::socket refused(context);
  client.async_connect(taken.listener.local_endpoint(), success.handler());
  refused.async_connect(closed.listener.local_endpoint(), failure.handler());
  context.poll();
  REQUIRE_FALSE(success.code);
  REQUIRE_FALSE(failure.code);
  closed.listener.close();
  // Room for everybody.
  const std::function<void()> accept = [&] {
    taken.listener.async_accept([&](error_code code, auto) {
      if (!code) accept();
    });
  };
  accept();
  while (!success.code || !failure.code) context.run_one();
  CHECK(*success.code == error_code());
  CHECK(*failure.code == asio::error::connection_refused);
  CHECK(client.remote_endpoint() == taken.listener.local_endpoint());
  // Asio's io_uring does not survive an accept that waits when its context ends.
  taken.listener.close();
  context.run();
}

TEST_CASE("cancel: an accept ends by signal, cancel and close, and can be asked again") {
  asio::io_context context;
  dibsock::acceptor listener(context, any_port());
  dibsock::socket peer(context);
  for (int way = 0; way < 5; ++way) {
    CAPTURE(way);
    context.restart();
    asio::cancellation_signal signal;
    stopped accept;
    listener.async_accept(peer, asio::bind_cancellation_slot(signal.slot(), accept.handler()));
    context.poll();
    if (way < 3) signal.emit(all_types[way]);
    if (way == 3) listener.cancel();
    if (way == 4) listener.close();
    context.run();
    CHECK(accept.code == asio::error::operation_aborted);
    CHECK_FALSE(peer.is_open());
  }
}

TEST_CASE("cancel: cancel() ends what waits, and the socket goes on") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  std::array<char, 8> to{};
  std::array<stopped, 3> operations;
  ends.server.async_read_some(asio::buffer(to), operations[0].handler());
  ends.server.async_read_some(asio::buffer(to), operations[1].handler());
  ends.server.async_wait(dibsock::socket::wait_read, operations[2].handler());
  SUBCASE("at once") {}
  SUBCASE("while they spin or sleep") { context.poll(); }
  ends.server.cancel();
  context.run();
  for (const stopped& each : operations) CHECK(each.code == asio::error::operation_aborted);
  ends.client.write_some(asio::buffer("on", 2));
  CHECK(ends.server.read_some(asio::buffer(to)) == 2);
}

TEST_CASE("cancel: close() and the end of the socket end what waits") {
  asio::io_context context;
  std::array<char, 8> to{};
  for (const bool by_close : {true, false}) {
    for (const bool is_parked : {true, false}) {
      auto ends = std::make_unique<two_smcd_sockets>(context);
      stopped read;
      ends->server.async_read_some(asio::buffer(to), read.handler());
      context.restart();
      if (is_parked) context.poll();
      if (by_close) ends->server.close();
      ends.reset();
      CHECK_FALSE(read.code);
      context.run();
      CHECK(read.code == asio::error::operation_aborted);
    }
  }
}

TEST_CASE("cancel: a context that goes away takes its operations along, uncalled") {
  const auto token = std::make_shared<int>(0);
  std::array<char, 8> to{};
  for (int way = 0; way < 3; ++way) {
    CAPTURE(way);
    asio::io_context context;
    auto ends = std::make_shared<two_smcd_sockets>(context);
    const std::shared_ptr<std::string> much = std::make_shared<std::string>(1 << 26, 'x');
    // The handlers own the sockets that they wait for.
    ends->server.async_read_some(asio::buffer(to),
                                 [ends, token](error_code, std::size_t) { CHECK(false); });
    asio::async_write(ends->server, asio::buffer(*much),
                      [ends, much, token](error_code, std::size_t) { CHECK(false); });
    if (way == 1) context.poll();
    if (way == 2) context.run_for(std::chrono::milliseconds(20));
  }
  CHECK(token.use_count() == 1);
}

}  // namespace
