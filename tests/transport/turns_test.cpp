// SPDX-License-Identifier: Apache-2.0
// Operations that share the turns of their io_context: each completes as if by
// post(), whatever the handlers of the others do.
#include <transport/detail/turns.hpp>

#include "ends.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_future.hpp>

#include <array>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>

namespace {

using namespace support;

TEST_CASE("turns: an io_context is one, a strand on it is not") {
  asio::io_context context;
  const asio::any_io_executor plain = context.get_executor();
  const asio::any_io_executor strand = asio::make_strand(context);
  CHECK(dibsock::detail::plain_context(context.get_executor()) == &context);
  CHECK(dibsock::detail::plain_context(plain) == &context);
  CHECK(dibsock::detail::plain_context(strand) == nullptr);
  CHECK(dibsock::detail::plain_context(asio::any_io_executor()) == nullptr);
}

TEST_CASE("turns: no handler is called by the function that starts its operation") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  int depth = 0;
  int calls = 0;
  std::function<void()> write = [&] {
    ends.client.async_write_some(asio::buffer("x", 1), [&](error_code code, std::size_t) {
      CHECK_FALSE(code);
      CHECK(depth == 0);
      ++depth;
      if (++calls < 100) write();
      --depth;
    });
  };
  write();
  CHECK(calls == 0);
  context.run();
  CHECK(calls == 100);
}

TEST_CASE("turns: a handler that runs the context meets what it has started") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  bool is_inner_done = false;
  ends.client.async_write_some(asio::buffer("x", 1), [&](error_code, std::size_t) {
    ends.client.async_write_some(asio::buffer("y", 1),
                                 [&](error_code, std::size_t) { is_inner_done = true; });
    CHECK_FALSE(is_inner_done);
    while (!is_inner_done) context.run_one();
  });
  context.run();
  CHECK(is_inner_done);
}

TEST_CASE("turns: a handler that waits for what it has started is served by another thread") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  std::size_t size = 0;
  std::array<char, 1> to{};
  std::size_t got = 0;
  ends.client.async_write_some(asio::buffer("x", 1), [&](error_code, std::size_t) {
    size = ends.client.async_write_some(asio::buffer("y", 1), asio::use_future).get();
    got = ends.server.async_read_some(asio::buffer(to), asio::use_future).get();
    context.stop();
  });
  const auto work = asio::make_work_guard(context);
  std::thread other([&] { context.run(); });
  context.run();
  other.join();
  CHECK(size == 1);
  CHECK(got == 1);
}

TEST_CASE("turns: after stop() no other handler is called") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  int calls = 0;
  const auto count = [&](error_code, std::size_t) {
    ++calls;
    context.stop();
  };
  ends.client.async_write_some(asio::buffer("x", 1), count);
  ends.client.async_write_some(asio::buffer("y", 1), count);
  context.run();
  CHECK(calls == 1);
  context.restart();
  context.run();
  CHECK(calls == 2);
}

TEST_CASE("turns: a handler may throw, and the others are called later") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  int calls = 0;
  for (int i = 0; i < 3; ++i) {
    ends.client.async_write_some(asio::buffer("x", 1), [&](error_code, std::size_t) {
      ++calls;
      throw std::runtime_error("of a handler");
    });
  }
  for (int i = 1; i <= 3; ++i) {
    CHECK_THROWS_AS(context.run(), std::runtime_error);
    CHECK(calls == i);
  }
  context.run();
  CHECK(calls == 3);
}

TEST_CASE("turns: what is always ready keeps nothing else from its turn") {
  asio::io_context context;
  two_smcd_sockets busy(context);
  two_smcd_sockets quiet(context);
  std::array<char, 8> to{};
  bool is_read = false;
  bool is_posted = false;
  quiet.server.async_read_some(asio::buffer(to), [&](error_code, std::size_t) { is_read = true; });
  SUBCASE("while it spins") {}
  SUBCASE("when it sleeps") { context.poll(); }
  int rounds = 0;
  std::function<void()> go_on = [&] {
    if (++rounds == 100) {
      quiet.client.write_some(asio::buffer("x", 1));
      asio::post(context, [&] { is_posted = true; });
    }
    if (rounds == 1'000'000 || (is_read && is_posted)) return;
    busy.client.async_read_some(asio::buffer(to.data(), 0),
                                [&](error_code, std::size_t) { go_on(); });
  };
  go_on();
  context.restart();
  context.run();
  CHECK(is_read);
  CHECK(is_posted);
  CHECK(rounds < 1'000'000);
}

TEST_CASE("turns: a context that goes away drops what waits for a turn") {
  const auto token = std::make_shared<int>();
  std::array<char, 8> to{};
  {
    asio::io_context context;
    two_smcd_sockets ends(context);
    ends.server.async_read_some(asio::buffer(to), [token](error_code, std::size_t) {});
    ends.client.async_write_some(asio::buffer("x", 1), [token](error_code, std::size_t) {});
    SUBCASE("before it ran") {}
    SUBCASE("after it ran for a while") { context.run_one(); }
  }
  CHECK(token.use_count() == 1);
}

}  // namespace
