// SPDX-License-Identifier: Apache-2.0
// Many streams on one context, and several threads in it.
#include <transport/detail/wake_service.hpp>

#include "ends.hpp"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace {

using namespace support;

// Says back what it hears until the stream ends.
class echo : public std::enable_shared_from_this<echo> {
 public:
  explicit echo(dibsock::socket on) : on_(std::move(on)) {}
  void start() {
    on_.async_read_some(asio::buffer(bytes_),
                        [self = shared_from_this()](error_code code, std::size_t size) {
                          if (!code) self->answer(size);
                        });
  }

 private:
  void answer(std::size_t size) {
    asio::async_write(on_, asio::buffer(bytes_, size),
                      [self = shared_from_this()](error_code code, std::size_t) {
                        if (!code) self->start();
                      });
  }
  dibsock::socket on_;
  std::array<char, 1000> bytes_{};
};

// Asks so many times, and compares.
class asking : public std::enable_shared_from_this<asking> {
 public:
  asking(asio::any_io_executor on, std::uint64_t seed, int rounds, std::atomic<int>& good)
      : on_(std::move(on)), seed_(seed), rounds_(rounds), good_(good) {}
  void start(const tcp::endpoint& to) {
    on_.async_connect(to, [self = shared_from_this()](error_code code) {
      if (!code) self->ask();
    });
  }

 private:
  void ask() {
    if (rounds_-- == 0) {
      if (may_be(on_.mode() == dibsock::mode::smcd)) ++good_;
      on_.close();
      return;
    }
    ++seed_;
    question_ = random_bytes(1 + seed_ % 700, seed_);
    answer_.assign(question_.size(), '\0');
    asio::async_write(on_, asio::buffer(question_), [](error_code, std::size_t) {});
    asio::async_read(on_, asio::buffer(answer_),
                     [self = shared_from_this()](error_code code, std::size_t) {
                       if (!code && self->answer_ == self->question_) self->ask();
                     });
  }
  dibsock::socket on_;
  std::uint64_t seed_;
  int rounds_;
  std::atomic<int>& good_;
  std::string question_;
  std::string answer_;
};

void accept_all(dibsock::acceptor& from) {
  from.async_accept(asio::make_strand(from.get_executor()), [&](error_code code, auto made) {
    if (code) return;
    std::make_shared<echo>(std::move(made))->start();
    accept_all(from);
  });
}

void run_many(int threads, int connections, int rounds) {
  asio::io_context context;
  dibsock::acceptor listener(context, any_port());
  accept_all(listener);
  std::atomic<int> good{0};
  // All done: nobody else comes.
  asio::io_context clients;
  for (int i = 0; i < connections; ++i) {
    std::make_shared<asking>(asio::make_strand(clients), 100 * static_cast<std::uint64_t>(i),
                             rounds, good)
        ->start(listener.local_endpoint());
  }
  std::vector<std::thread> others;
  for (int i = 0; i < threads; ++i) {
    others.emplace_back([&] { context.run(); });
    others.emplace_back([&] { clients.run(); });
  }
  clients.run();
  asio::post(context, [&] { listener.close(); });
  for (std::thread& other : others) other.join();
  CHECK(good == connections);
}

TEST_CASE("context: many connections in one thread each") { run_many(1, 50, 20); }

TEST_CASE("context: many connections on contexts of several threads") { run_many(3, 20, 50); }

TEST_CASE("context: run() returns when nothing waits, and not before") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  CHECK(context.run() == 0);
  std::array<char, 8> to{};
  bool was_read = false;
  ends.server.async_read_some(asio::buffer(to), [&](error_code, std::size_t) { was_read = true; });
  context.restart();
  std::thread runner([&] { context.run(); });
  ends.client.write_some(asio::buffer("x", 1));
  runner.join();
  CHECK(was_read);
}

TEST_CASE("context: a spin leaves other work its turns") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  std::array<char, 8> to{};
  std::vector<int> order;
  ends.server.async_read_some(asio::buffer(to),
                              [&](error_code, std::size_t) { order.push_back(9); });
  for (int i = 0; i < 3; ++i) asio::post(context, [&, i] { order.push_back(i); });
  asio::post(context, [&] { ends.client.write_some(asio::buffer("x", 1)); });
  context.run();
  CHECK(order == std::vector<int>{0, 1, 2, 9});
}

void end_from_another_thread(bool is_smcd) {
  for (int i = 0; i < 50; ++i) {
    asio::io_context context;
    two_sockets ends(context);
    if (is_smcd) ends.establish();
    std::array<char, 8> to{};
    error_code code;
    ends.server.async_read_some(asio::buffer(to), [&](error_code why, std::size_t) { code = why; });
    std::thread runner([&] { context.run(); });
    if (i % 2 == 0) {
      ends.server.close();
    } else {
      ends.server.cancel();
    }
    runner.join();
    CHECK(code == asio::error::operation_aborted);
  }
}

TEST_CASE("context: close and cancel from a thread that does not run it") {
  SUBCASE("on SMC-D") { end_from_another_thread(true); }
  SUBCASE("on TCP") { end_from_another_thread(false); }
}

TEST_CASE("context: a full ring is given up after a while, and the writer goes on") {
  asio::io_context context;
  two_smcd_sockets ends(context);
  const std::string much = random_bytes(1'000'000, 1);  // four rings
  bool was_written = false;
  asio::async_write(ends.client, asio::buffer(much), [&](error_code code, std::size_t) {
    CHECK_FALSE(code);
    was_written = true;
  });
  context.run();
  CHECK(was_written);
  std::string got(much.size(), '\0');
  asio::read(ends.server, asio::buffer(got));
  CHECK(got == much);
}

TEST_CASE("context: more streams than one thread has bits for would be asked in turn") {
  // The operations of one stream share a bit; a bit comes back with the stream.
  asio::io_context context;
  for (int i = 0; i < 100; ++i) {
    two_smcd_sockets ends(context);
    std::array<char, 8> to{};
    std::size_t size = 0;
    ends.server.async_read_some(asio::buffer(to), [&](error_code, std::size_t n) { size = n; });
    context.restart();
    context.poll();
    ends.client.write_some(asio::buffer("xy", 2));
    context.run();
    CHECK(size == 2);
  }
}

}  // namespace
