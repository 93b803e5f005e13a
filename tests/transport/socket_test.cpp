// SPDX-License-Identifier: Apache-2.0
#include <transport/socket.hpp>

#include "ends.hpp"

#include <boost/asio/deferred.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/beast/core/stream_traits.hpp>

#include <array>
#include <optional>
#include <string_view>
#include <utility>

namespace {

using namespace support;
using dibsock::mode;

// ---- what has to compile ---------------------------------------------------

static_assert(boost::beast::is_sync_stream<dibsock::socket>::value);
static_assert(boost::beast::is_async_stream<dibsock::socket>::value);
static_assert(std::is_same_v<dibsock::socket::executor_type, asio::any_io_executor>);
static_assert(std::is_same_v<dibsock::socket::lowest_layer_type, dibsock::socket>);
static_assert(std::is_nothrow_move_constructible_v<dibsock::socket>);
static_assert(std::is_nothrow_move_assignable_v<dibsock::socket>);
static_assert(!std::is_copy_constructible_v<dibsock::socket>);

using awaiting_socket = asio::use_awaitable_t<>::as_default_on_t<dibsock::socket>;
using context_socket = dibsock::basic_socket<asio::io_context::executor_type>;
static_assert(std::is_convertible_v<context_socket&&, dibsock::socket>);

[[maybe_unused]] asio::awaitable<void> compile_default_token(awaiting_socket& on) {
  std::array<char, 8> bytes{};
  co_await on.async_connect(any_port());
  static_cast<void>(co_await on.async_read_some(asio::buffer(bytes)));
  static_cast<void>(co_await on.async_write_some(asio::buffer(bytes)));
  co_await on.async_wait(awaiting_socket::wait_read);
}

[[maybe_unused]] void compile_all(asio::io_context& context, dibsock::socket& on) {
  error_code code;
  const dibsock::socket opened(context, tcp::v6());
  const dibsock::socket by_executor(context.get_executor(), tcp::v4());
  asio::strand<asio::io_context::executor_type> strand(context.get_executor());
  const dibsock::socket on_strand(strand);
  tcp::no_delay option;
  on.open();
  on.open(tcp::v4(), code);
  on.bind(any_port());
  on.connect(any_port());
  on.get_option(option);
  on.set_option(option, code);
  on.non_blocking(true);
  on.shutdown(dibsock::socket::shutdown_both);
  on.cancel();
  on.close();
  on.lowest_layer().close(code);
  std::array<char, 4> bytes{};
  std::array<asio::mutable_buffer, 2> parts{asio::buffer(bytes), asio::buffer(bytes)};
  on.read_some(parts);
  on.write_some(parts, code);
  on.async_read_some(parts, asio::deferred)([](error_code, std::size_t) {});
  on.async_write_some(parts, asio::use_future).get();
  on.async_connect(any_port(), asio::use_future).get();
}

// ---- what it does ------------------------------------------------------------

TEST_CASE("socket: one that is not open answers bad_descriptor") {
  asio::io_context context;
  dibsock::socket closed(context);
  CHECK_FALSE(closed.is_open());
  CHECK(closed.native_handle() == -1);
  CHECK(closed.mode() == mode::tcp);
  char byte = 0;
  error_code code;
  closed.read_some(asio::buffer(&byte, 1), code);
  CHECK(code == asio::error::bad_descriptor);
  CHECK_THROWS_AS(closed.write_some(asio::buffer(&byte, 1)), boost::system::system_error);
  CHECK(closed.cancel(code) == asio::error::bad_descriptor);
  CHECK_FALSE(closed.close(code));
  std::optional<error_code> completed;
  closed.async_read_some(asio::buffer(&byte, 1),
                         [&](error_code why, std::size_t) { completed = why; });
  CHECK_FALSE(completed);
  context.run();
  CHECK(completed == asio::error::bad_descriptor);
}

TEST_CASE("socket: one that is not connected answers not_connected") {
  asio::io_context context;
  dibsock::socket idle(context, tcp::v4());
  char byte = 0;
  error_code code;
  idle.read_some(asio::buffer(&byte, 1), code);
  CHECK(code == asio::error::not_connected);
  idle.async_write_some(asio::buffer(&byte, 1), [&](error_code why, std::size_t) { code = why; });
  code = {};
  context.run();
  CHECK(code == asio::error::not_connected);
}

TEST_CASE("socket: a connection that is refused is refused") {
  asio::io_context context;
  tcp::endpoint nobody;
  {
    const dibsock::acceptor listener(context, any_port());
    nobody = listener.local_endpoint();
  }
  dibsock::socket client(context);
  error_code code;
  CHECK(client.connect(nobody, code) == asio::error::connection_refused);
  client.close();
  client.async_connect(nobody, [&](error_code why) { code = why; });
  code = {};
  context.run();
  CHECK(code == asio::error::connection_refused);
}

TEST_CASE("socket: two of them talk over SMC-D, and the kernel's names hold") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  CHECK(may_be(ends.client.fallback_reason() == smcd::decline_code::none));
  CHECK(ends.client.local_endpoint() == ends.server.remote_endpoint());
  CHECK(ends.client.remote_endpoint() == ends.server.local_endpoint());
  CHECK(ends.client.write_some(asio::buffer("over memory", 11)) == 11);
  CHECK(ends.server.available() == 11);
  std::array<char, 32> to{};
  const std::size_t size = ends.server.read_some(asio::buffer(to));
  CHECK(std::string_view(to.data(), size) == "over memory");
}

TEST_CASE("socket: scattered buffers are one stream") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  const std::array<asio::const_buffer, 4> from{asio::buffer("ab", 2), asio::buffer("", 0),
                                               asio::buffer("cde", 3), asio::buffer("f", 1)};
  CHECK(ends.client.write_some(from) == 6);
  std::array<char, 1> first{};
  std::array<char, 9> rest{};
  const std::array<asio::mutable_buffer, 2> to{asio::buffer(first), asio::buffer(rest)};
  CHECK(ends.server.read_some(to) == 6);
  CHECK(first[0] == 'a');
  CHECK(std::string_view(rest.data(), 5) == "bcdef");
}

TEST_CASE("socket: empty buffers complete at once, without bytes") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  error_code code = asio::error::eof;
  CHECK(ends.client.read_some(asio::mutable_buffer(), code) == 0);
  CHECK_FALSE(code);
  CHECK(ends.client.write_some(asio::const_buffer()) == 0);
  int completed = 0;
  const auto check = [&](error_code why, std::size_t size) {
    CHECK_FALSE(why);
    CHECK(size == 0);
    ++completed;
  };
  ends.client.async_read_some(asio::mutable_buffer(), check);
  ends.client.async_write_some(asio::const_buffer(), check);
  context.run();
  CHECK(completed == 2);
}

TEST_CASE("socket: an operation that is ready completes later, on its executor") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  ends.client.write_some(asio::buffer("now", 3));
  asio::io_context elsewhere;
  std::array<char, 8> to{};
  std::size_t size = 0;
  ends.server.async_read_some(
      asio::buffer(to),
      asio::bind_executor(elsewhere, [&](error_code, std::size_t n) { size = n; }));
  CHECK(size == 0);
  context.run();
  CHECK(size == 0);
  elsewhere.run();
  CHECK(size == 3);
}

TEST_CASE("socket: an operation that waits keeps its executor busy until it completes") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  asio::io_context elsewhere;
  std::array<char, 8> to{};
  std::size_t size = 0;
  ends.server.async_read_some(
      asio::buffer(to),
      asio::bind_executor(elsewhere, [&](error_code, std::size_t n) { size = n; }));
  elsewhere.poll();
  CHECK_FALSE(elsewhere.stopped());
  ends.client.write_some(asio::buffer("later", 5));
  while (size == 0) {
    context.poll();
    elsewhere.poll();
  }
  CHECK(size == 5);
}

TEST_CASE("socket: an operation that waits keeps its context busy, wherever its handler runs") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  asio::io_context elsewhere;
  std::array<char, 8> to{};
  std::size_t size = 0;
  ends.server.async_read_some(
      asio::buffer(to),
      asio::bind_executor(elsewhere, [&](error_code, std::size_t n) { size = n; }));
  // A step finds nothing, and then waits once more.
  for (int i = 0; i < 100; ++i) {
    context.poll();
    CHECK_FALSE(context.stopped());
    elsewhere.poll();
  }
  ends.client.write_some(asio::buffer("later", 5));
  while (size == 0 && !context.stopped()) {
    context.poll();
    elsewhere.poll();
  }
  CHECK(size == 5);
}

TEST_CASE("socket: without blocking, what would wait says so") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  ends.server.non_blocking(true);
  CHECK(ends.server.non_blocking());
  std::array<char, 8> to{};
  error_code code;
  ends.server.read_some(asio::buffer(to), code);
  CHECK(code == asio::error::would_block);
  ends.client.write_some(asio::buffer("x", 1));
  CHECK(ends.server.read_some(asio::buffer(to), code) == 1);
  CHECK_FALSE(code);
}

TEST_CASE("socket: async_wait tells when there is input, room, or an end") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  int completed = 0;
  const auto count = [&](error_code why) {
    CHECK_FALSE(why);
    ++completed;
  };
  ends.server.async_wait(dibsock::socket::wait_write, count);
  ends.server.async_wait(dibsock::socket::wait_read, count);
  context.run_one();
  CHECK(completed == 1);
  ends.client.write_some(asio::buffer("x", 1));
  context.run();
  CHECK(completed == 2);
  CHECK(ends.server.available() == 1);
  char byte = 0;
  ends.server.read_some(asio::buffer(&byte, 1));
  ends.server.async_wait(dibsock::socket::wait_read, count);
  ends.client.close();
  context.restart();
  context.run();
  CHECK(completed == 3);
}

TEST_CASE("socket: moving one takes its operations along") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  std::array<char, 8> to{};
  std::size_t size = 0;
  ends.server.async_read_some(asio::buffer(to), [&](error_code, std::size_t n) { size = n; });
  dibsock::socket moved(std::move(ends.server));
  CHECK_FALSE(ends.server.is_open());
  CHECK(may_be(moved.mode() == mode::smcd));
  ends.client.write_some(asio::buffer("after", 5));
  context.run();
  CHECK(size == 5);
  ends.server = std::move(moved);
  CHECK(may_be(ends.server.mode() == mode::smcd));
}

TEST_CASE("socket: use_future and deferred complete like callbacks") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  std::array<char, 8> to{};
  auto reading = ends.server.async_read_some(asio::buffer(to), asio::use_future);
  auto writing = ends.client.async_write_some(asio::buffer("four", 4), asio::deferred);
  std::size_t written = 0;
  std::move(writing)([&](error_code, std::size_t n) { written = n; });
  context.run();
  CHECK(written == 4);
  CHECK(reading.get() == 4);
}

}  // namespace
