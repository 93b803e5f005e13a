// SPDX-License-Identifier: Apache-2.0
// Full rings: waiting for room, going back to TCP, and returning to the DMB.
#include <smcd/connection.hpp>

#include <devices/event_queue.hpp>
#include <support/stream.hpp>
#include <support/two_ends.hpp>

#include <doctest/doctest.h>

#include <poll.h>

#include <vector>

using smcd::lane;
using support::end_point;
using support::ends_options;
using support::stack_options;
using support::stream;
using support::two_ends;
using support::two_stacks;
using outcome = support::stream::outcome;

namespace {

constexpr std::uint32_t ring = 16 * 1024 - 32;
constexpr std::uint64_t us = dibs::ticks_per_us;

smcd::result<std::size_t> write_at(end_point& end, std::size_t size, std::uint64_t now) {
  const std::vector<std::byte> bytes(size);
  return end.write(bytes, now);
}

}  // namespace

TEST_CASE("lanes of a connection: a ring takes exactly its size") {
  two_ends ends(stack_options{.patience_us = 1000});
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  CHECK(up.write(20000) == outcome::moved);
  CHECK(up.written == ring);
  CHECK(up.write(1) == outcome::wait);
  CHECK(ends.client.connection.unread_by_peer() == ring);
  CHECK(ends.server.connection.readable_size(ends.server.tcp) == ring);
  CHECK(up.read_all(5000) == outcome::wait);
  CHECK(up.taken == ring);
  CHECK(up.problem == "");
}

TEST_CASE("lanes of a connection: a full ring is waited for, and given up after a while") {
  two_ends ends(stack_options{.patience_us = 1000});
  REQUIRE(ends.establish());
  std::uint64_t now = ends.clock().now();
  REQUIRE(write_at(ends.client, ring, now).value() == ring);
  for (const std::uint64_t later : {0 * us, 1 * us, 500 * us, 1000 * us}) {
    CHECK(dibs::is_would_block(write_at(ends.client, 10, now + later).error()));
    CHECK(!ends.client.connection.has_room(ends.client.tcp, now + later));
  }
  CHECK(ends.client.connection.sends_on() == lane::dmb);
  CHECK(ends.client.connection.has_room(ends.client.tcp, now + 1001 * us));
  CHECK(write_at(ends.client, 10, now + 1001 * us).value() == 10);
  CHECK(ends.client.connection.sends_on() == lane::tcp);
  // A clock that is behind: another CPU's.
  CHECK(write_at(ends.client, 10, now - 5000 * us).value() == 10);
}

TEST_CASE("lanes of a connection: a clock that steps back is no patience lost") {
  two_ends ends(stack_options{.patience_us = 1000});
  REQUIRE(ends.establish());
  const std::uint64_t now = ends.clock().now();
  REQUIRE(write_at(ends.client, ring, now).value() == ring);
  CHECK(dibs::is_would_block(write_at(ends.client, 10, now).error()));
  CHECK(dibs::is_would_block(write_at(ends.client, 10, now - 1).error()));
  CHECK(dibs::is_would_block(write_at(ends.client, 10, now - 100 * us).error()));
  CHECK(ends.client.connection.sends_on() == lane::dmb);
}

TEST_CASE(
    "lanes of a connection: what spills onto TCP comes in its place, and the ring is found again") {
  two_ends ends;  // no patience
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  for (int round = 0; round < 20; ++round) {
    while (ends.client.connection.sends_on() == lane::dmb) up.write(5000);
    for (int i = 0; i < 5; ++i) CHECK(up.write(30000) == outcome::moved);
    CHECK(ends.client.connection.sends_on() == lane::tcp);
    // Half of the ring is read: not enough to return, a little more is.
    while (ends.client.connection.unread_by_peer() > ring / 2) up.read(1000);
    up.read(4096);
    up.read(4096);
    up.write(10);
    CHECK(ends.client.connection.sends_on() == lane::dmb);
    CHECK(up.read_all(7777) == outcome::wait);
    CHECK(up.taken == up.written);
    REQUIRE(up.problem == "");
  }
  CHECK(ends.server.connection.receives_on() == lane::dmb);
}

TEST_CASE("lanes of a connection: a reader that is far behind follows every change") {
  two_ends ends;
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  support::random random(1);
  // As many changes of lane as can be announced, and then no more.
  for (int i = 0; i < 200; ++i) {
    up.write(random.between(1, 9000));
    if (random.one_in(3)) up.read(random.between(1, 3000));
  }
  CHECK(up.read_all(100) == outcome::wait);
  CHECK(up.taken == up.written);
  CHECK(up.problem == "");
}

TEST_CASE("lanes of a connection: bytes on both lanes are counted together") {
  two_ends ends;  // no patience
  REQUIRE(ends.establish());
  const auto readable = [&] { return ends.server.connection.readable_size(ends.server.tcp); };
  stream up(ends.client, ends.server);
  while (ends.client.connection.sends_on() == lane::dmb) up.write(5000);
  up.write(30000);
  CHECK(readable() == up.written);
  while (ends.client.connection.unread_by_peer() > ring / 4) up.read(1000);
  CHECK(readable() == up.written - up.taken);
  up.write(10);
  CHECK(ends.client.connection.sends_on() == lane::dmb);
  CHECK(readable() == up.written - up.taken);
  CHECK(up.read_all(7777) == outcome::wait);
  CHECK(readable() == 0);
  CHECK(up.problem == "");
}

TEST_CASE("lanes of a connection: the last mark is kept for the way out of the ring") {
  two_ends ends;  // no patience
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  while (ends.client.connection.sends_on() == lane::dmb) up.write(5000);
  CHECK(up.read_all() == outcome::wait);
  // As if three marks were not taken yet.
  ends.server.side().marks_taken -= 3;
  CHECK(up.write(10) == outcome::moved);
  CHECK(ends.client.connection.sends_on() == lane::tcp);
  ends.server.side().marks_taken += 1;
  CHECK(up.write(10) == outcome::moved);
  CHECK(ends.client.connection.sends_on() == lane::dmb);
  // The one that finds the ring full waits, for no time; all others move on.
  int waits = 0;
  for (int i = 0; i < 20; ++i) waits += up.write(5000) == outcome::wait ? 1 : 0;
  CHECK(waits == 1);
  ends.server.side().marks_taken += 2;
  CHECK(up.read_all() == outcome::wait);
  CHECK(up.taken == up.written);
  CHECK(up.problem == "");
}

TEST_CASE("lanes of a connection: has_room and write_some agree when no mark can be announced") {
  two_ends ends;
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  up.write(100);
  // As if four marks were not taken yet.
  ends.server.side().marks_taken -= 4;
  // More than a quarter of the ring is taken in part.
  while (up.write(5000) == outcome::moved) {
  }
  std::uint64_t now = ends.clock().now();
  // No room in the ring, and no way to the TCP lane: wait, do not turn round.
  CHECK(dibs::is_would_block(write_at(ends.client, 10, now).error()));
  for (int i = 0; i < 3; ++i)
    CHECK(!ends.client.connection.has_room(ends.client.tcp, now += 5000 * us));
  ends.server.side().marks_taken += 4;
  CHECK(ends.client.connection.has_room(ends.client.tcp, now += 5000 * us));
  CHECK(write_at(ends.client, 10, now).value() == 10);
}

TEST_CASE(
    "lanes of a connection: a peer that is gone is told of even when no mark can be announced") {
  for (const bool says_goodbye : {true, false}) {
    two_ends ends;
    REQUIRE(ends.establish());
    stream up(ends.client, ends.server);
    up.write(100);
    ends.server.side().marks_taken -= 4;
    if (says_goodbye) {
      static_cast<void>(ends.server.close());
    } else {
      ends.server.tcp.reset();
    }
    outcome last = outcome::moved;
    for (int i = 0; i < 50 && last != outcome::failed; ++i) last = up.write(4000);
    CHECK(last == outcome::failed);
    CHECK(ends.client.connection.has_room(ends.client.tcp, ends.clock().now()));
  }
}

// ---- waking ------------------------------------------------------------------

namespace {

// A waiter of one end that sleeps on its bell.
struct sleeper {
  sleeper(smcd::stack& on, end_point& end) : of(end) {
    auto opened = dibs::event_queue::open(on.queues());
    REQUIRE(opened.has_value());
    queue = std::move(*opened);
    REQUIRE(of.connection.enter_waiter(queue.word(1)));
  }
  ~sleeper() {
    if (of.connection.is_open()) of.connection.leave_waiter(queue.word(1));
  }

  void sleep() {
    queue.drain_bell();
    queue.take_bits([](std::uint16_t) {});
    queue.arm();
  }
  [[nodiscard]] bool is_awake() const {
    pollfd ask{queue.bell(), POLLIN, 0};
    return ::poll(&ask, 1, 0) > 0;
  }

  end_point& of;
  dibs::event_queue queue;
};

}  // namespace

TEST_CASE("lanes of a connection: whoever waits is woken by what it waits for") {
  two_stacks stacks(stack_options{.patience_us = 1'000'000});
  two_ends ends(stacks);
  REQUIRE(ends.establish());
  sleeper client(stacks.of_client(), ends.client);
  sleeper server(stacks.of_server(), ends.server);
  stream up(ends.client, ends.server);

  SUBCASE("data") {
    server.sleep();
    CHECK(!server.is_awake());
    up.write(1);
    CHECK(server.is_awake());
    CHECK(!client.is_awake());
  }
  SUBCASE("room, when a quarter of the ring was read") {
    up.write(ring);
    std::uint64_t now = ends.clock().now();
    CHECK(!ends.client.connection.has_room(ends.client.tcp, now));
    client.sleep();
    while (up.taken < ring / 8) up.read(100);
    CHECK(client.is_awake());
    while (!ends.client.connection.has_room(ends.client.tcp, now + 1)) {
      client.sleep();
      REQUIRE(!ends.client.connection.has_room(ends.client.tcp, now + 1));
      for (int i = 0; i < 1000 && !client.is_awake(); ++i) up.read(100);
      REQUIRE(client.is_awake());
    }
    CHECK(up.taken <= ring / 4 + ring / 8);
  }
  SUBCASE("room, when the reader took all at once") {
    up.write(ring);
    CHECK(!ends.client.connection.has_room(ends.client.tcp, ends.clock().now()));
    client.sleep();
    up.read_all(ring);
    CHECK(client.is_awake());
    CHECK(ends.client.connection.has_room(ends.client.tcp, ends.clock().now()));
  }
  SUBCASE("the end of the stream") {
    server.sleep();
    ends.client.connection.shutdown_write();
    CHECK(server.is_awake());
  }
  SUBCASE("the end of the connection") {
    server.sleep();
    static_cast<void>(ends.client.close());
    CHECK(server.is_awake());
  }
  SUBCASE("a change of lane") {
    server.sleep();
    ends.client.connection.stay_on_tcp(smcd::decline_code::option_unsupported);
    CHECK(server.is_awake());
  }
  SUBCASE("nothing else") {
    client.sleep();
    server.sleep();
    static_cast<void>(ends.client.connection.has_input(ends.client.tcp));
    static_cast<void>(ends.server.connection.has_room(ends.server.tcp, ends.clock().now()));
    static_cast<void>(up.read(100));
    CHECK(!client.is_awake());
    CHECK(!server.is_awake());
  }
}

TEST_CASE(
    "lanes of a connection: a writer that gave up and returned is not called blocked any more") {
  two_stacks stacks;
  two_ends ends(stacks);
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  while (ends.client.connection.sends_on() == lane::dmb) up.write(4000);
  CHECK(up.read_all() == outcome::wait);
  up.write(10);
  CHECK(ends.client.connection.sends_on() == lane::dmb);
  CHECK(up.read_all() == outcome::wait);
  // Nobody is woken for room that nobody waits for.
  sleeper client(stacks.of_client(), ends.client);
  client.sleep();
  for (int i = 0; i < 50; ++i) {
    up.write(2000);
    up.read_all();
  }
  CHECK(!client.is_awake());
  CHECK(up.problem == "");
}

TEST_CASE("lanes of a connection: a short write goes into the ring in whole or not at all") {
  two_ends ends(stack_options{.patience_us = 1'000'000});
  REQUIRE(ends.establish());
  const std::uint64_t now = ends.clock().now();
  REQUIRE(write_at(ends.client, ring - 5, now).value() == ring - 5);
  // Another writer's bytes could come between its own.
  CHECK(dibs::is_would_block(write_at(ends.client, 8, now).error()));
  CHECK(!ends.client.connection.room_hint());
  CHECK(write_at(ends.client, 5, now).value() == 5);
  // A long one takes what there is.
  std::vector<std::byte> some(3000);
  CHECK(ends.server.read(some).value() == 3000);
  CHECK(ends.server.read(some).value() == 3000);
  CHECK(write_at(ends.client, ring, now).value() > 0);
}
