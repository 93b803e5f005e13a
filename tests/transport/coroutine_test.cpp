// SPDX-License-Identifier: Apache-2.0
// The same from coroutines.
#include <transport/acceptor.hpp>

#include <transport/connect.hpp>

#include "ends.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <array>
#include <chrono>
#include <exception>
#include <vector>

namespace {

using namespace support;
using asio::awaitable;
using asio::use_awaitable;

void rethrow(std::exception_ptr thrown) {
  if (thrown) std::rethrow_exception(thrown);
}

awaitable<void> echo_one(dibsock::acceptor& from) {
  dibsock::socket peer = co_await from.async_accept(use_awaitable);
  std::array<char, 256> bytes{};
  for (;;) {
    error_code code;
    const std::size_t size = co_await peer.async_read_some(
        asio::buffer(bytes), asio::redirect_error(use_awaitable, code));
    if (code == asio::error::eof) break;
    REQUIRE_FALSE(code);
    co_await asio::async_write(peer, asio::buffer(bytes, size), use_awaitable);
  }
  CHECK(may_be(peer.mode() == dibsock::mode::smcd));
}

awaitable<void> ask(tcp::endpoint to, int rounds) {
  dibsock::socket on(co_await asio::this_coro::executor);
  const std::array<tcp::endpoint, 1> endpoints{to};
  CHECK(co_await dibsock::async_connect(on, endpoints, use_awaitable) == to);
  for (int i = 0; i < rounds; ++i) {
    const std::string question = random_bytes(1 + static_cast<std::size_t>(i) % 200, 7);
    std::string answer(question.size(), '\0');
    co_await asio::async_write(on, asio::buffer(question), use_awaitable);
    co_await asio::async_read(on, asio::buffer(answer), use_awaitable);
    REQUIRE(answer == question);
  }
  CHECK(may_be(on.mode() == dibsock::mode::smcd));
}

TEST_CASE("coroutine: an echo in one thread") {
  asio::io_context context;
  dibsock::acceptor listener(context, any_port());
  asio::co_spawn(context, echo_one(listener), rethrow);
  asio::co_spawn(context, ask(listener.local_endpoint(), 500), rethrow);
  context.run();
}

TEST_CASE("coroutine: an echo between two threads") {
  asio::io_context context;
  asio::io_context other;
  dibsock::acceptor listener(other, any_port());
  auto served = asio::co_spawn(other, echo_one(listener), asio::use_future);
  std::thread thread([&] { other.run(); });
  asio::co_spawn(context, ask(listener.local_endpoint(), 500), rethrow);
  context.run();
  thread.join();
  served.get();
}

awaitable<void> read_with_timeout(dibsock::socket& from, bool& was_late) {
  using namespace asio::experimental::awaitable_operators;
  std::array<char, 8> bytes{};
  asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(5));
  const auto first = co_await (from.async_read_some(asio::buffer(bytes), use_awaitable) ||
                               timer.async_wait(use_awaitable));
  was_late = first.index() == 1;
  const std::size_t size = co_await from.async_read_some(asio::buffer(bytes), use_awaitable);
  CHECK(size == 5);
}

TEST_CASE("coroutine: a read against a timer ends without loss") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  bool was_late = false;
  asio::co_spawn(context, read_with_timeout(ends.server, was_late), rethrow);
  while (!was_late) context.run_one();
  ends.client.write_some(asio::buffer("after", 5));
  context.run();
}

awaitable<void> write_until_cancelled(dibsock::socket& to, std::size_t& written) {
  co_await asio::this_coro::reset_cancellation_state(asio::enable_partial_cancellation());
  // The signal may come between two writes, and then ends neither.
  co_await asio::this_coro::throw_if_cancelled(false);
  const std::string bytes(1'000'000, 'x');
  for (;;) {
    const auto [code, size] =
        co_await asio::async_write(to, asio::buffer(bytes), asio::as_tuple(use_awaitable));
    written += size;
    const auto state = co_await asio::this_coro::cancellation_state;
    if (code || state.cancelled() != asio::cancellation_type::none) co_return;
  }
}

TEST_CASE("coroutine: a cancelled coroutine knows how much it wrote") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  std::size_t written = 0;
  asio::cancellation_signal signal;
  asio::co_spawn(context, write_until_cancelled(ends.client, written),
                 asio::bind_cancellation_slot(signal.slot(), rethrow));
  asio::steady_timer timer(context, std::chrono::milliseconds(20));
  timer.async_wait([&](error_code) { signal.emit(asio::cancellation_type::partial); });
  context.run();
  ends.client.close();
  std::string got;
  error_code code;
  asio::read(ends.server, asio::dynamic_buffer(got), code);
  CHECK(code == asio::error::eof);
  CHECK(got.size() == written);
}

}  // namespace
