// SPDX-License-Identifier: Apache-2.0
// Memory behind the rings: as much as is used, taken when it is written to and
// given back when nobody wants it.
#include <smcd/connection.hpp>

#include <support/child_process.hpp>
#include <support/random.hpp>
#include <support/stream.hpp>
#include <support/tiny_tmpfs.hpp>
#include <support/two_ends.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

using smcd::lane;
using support::end_point;
using support::stack_options;
using support::stream;
using support::two_ends;
using support::two_stacks;
using outcome = support::stream::outcome;

namespace {

constexpr std::size_t kib = 1024;
constexpr std::size_t buffer = 256 * kib;
// Of the two files of a pair, beside the DMBs: the directories.
constexpr std::size_t directories = 2 * dibs::page_size;

std::size_t memory_of(two_ends& ends) {
  return ends.stacks().fabric.memory_of(".dmb") - directories;
}

// A rest of both ends, longer after the one before than anybody's patience.
void rest(two_ends& ends) {
  for (int i = 0; i < 10; ++i) static_cast<void>(ends.clock().now());
  const std::uint64_t now = ends.clock().now();
  for (end_point* end : {&ends.client, &ends.server}) end->connection.rest(now);
}

// In steps, each of which reads what it wrote.
bool carry(stream& way, std::size_t size) {
  constexpr std::size_t step = 50'000;
  for (; size > step; size -= step) {
    if (!way.carry(step)) return false;
  }
  return way.carry(size);
}

std::uint64_t backed(const end_point& end) { return end.connection.state().sending.backed; }

// Takes all memory of a tmpfs but so many pages.
void fill(const std::filesystem::path& at, std::size_t pages_left) {
  const int file = ::open((at / "ballast").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  off_t size = 0;
  while (::fallocate(file, 0, size, dibs::page_size) == 0) size += dibs::page_size;
  static_cast<void>(::ftruncate(file, size - static_cast<off_t>(pages_left * dibs::page_size)) ==
                    0);
  ::close(file);
}
void empty(const std::filesystem::path& at) { std::filesystem::remove(at / "ballast"); }

}  // namespace

TEST_CASE("memory of a connection: a new one has little, and then what is written to") {
  if (dibs::chaos::is_on()) return;
  two_ends ends(stack_options{.buffer_size = buffer});
  REQUIRE(ends.establish());
  CHECK(memory_of(ends) == 2 * dibs::reserved_size);
  stream up(ends.client, ends.server);
  REQUIRE(up.carry(1000));
  CHECK(memory_of(ends) == 2 * dibs::reserved_size);
  // Into the second piece, and only that.
  REQUIRE(up.carry(8000));
  CHECK(memory_of(ends) == 3 * dibs::reserved_size);
  REQUIRE(up.carry(100 * kib));
  CHECK(memory_of(ends) <= 2 * dibs::reserved_size + 112 * kib);
  REQUIRE(up.carry(buffer));
  CHECK(memory_of(ends) == buffer + dibs::reserved_size);
}

TEST_CASE("memory of a connection: short messages take the long way to a new piece") {
  if (dibs::chaos::is_on()) return;
  two_ends ends(stack_options{.buffer_size = buffer});
  REQUIRE(ends.establish());
  const std::uint64_t now = ends.clock().now();
  const std::vector<std::byte> message(1000);
  // The long way looks around, and need not for a while.
  REQUIRE(ends.client.write(message, now).value() == 1000);
  int refused = 0;
  for (int i = 0; i < 400; ++i) {
    std::vector<std::byte> got(2000);
    std::size_t sent =
        ends.client.connection.write_short(ends.client.tcp, message.data(), message.size(), now);
    if (sent == 0) {
      ++refused;
      sent = ends.client.write(message, now).value();
    }
    REQUIRE(sent == message.size());
    REQUIRE(ends.server.read(got, false, now).value() >= message.size());
  }
  // One for each piece but the first, and none in the second round.
  CHECK(refused == 31);
  CHECK(memory_of(ends) == buffer + dibs::reserved_size);
}

TEST_CASE("memory of a connection: idle for two rests it has next to none") {
  if (dibs::chaos::is_on()) return;
  two_ends ends(stack_options{.buffer_size = buffer});
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  stream down(ends.server, ends.client);
  for (int round = 0; round < 5; ++round) {
    REQUIRE(carry(up, 3'000'000));
    REQUIRE(carry(down, 700'000));
    CHECK(memory_of(ends) == 2 * buffer);
    rest(ends);
    CHECK(memory_of(ends) == 2 * buffer);
    rest(ends);
    CHECK(memory_of(ends) == 2 * dibs::page_size);
    rest(ends);
    REQUIRE(up.carry(100));
    CHECK(memory_of(ends) <= 2 * dibs::page_size + 2 * dibs::reserved_size);
  }
  CHECK(ends.client.connection.sends_on() == lane::dmb);
  CHECK(up.problem == "");
  CHECK(down.problem == "");
}

TEST_CASE("memory of a connection: one that works is not disturbed") {
  if (dibs::chaos::is_on()) return;
  two_ends ends(stack_options{.buffer_size = buffer});
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  REQUIRE(carry(up, 1'000'000));
  const std::uint64_t before = backed(ends.client);
  for (int i = 0; i < 10; ++i) {
    rest(ends);
    REQUIRE(up.carry(10));
    CHECK(backed(ends.client) == before);
  }
  // Nor do rests that come too soon make it idle.
  const std::uint64_t now = ends.clock().now();
  for (int i = 0; i < 10; ++i) ends.client.connection.rest(now);
  CHECK(backed(ends.client) == before);
}

TEST_CASE("memory of a connection: bytes that are unread stay, wherever they lie in the ring") {
  if (dibs::chaos::is_on()) return;
  two_ends ends(stack_options{.buffer_size = buffer, .patience_us = 1'000'000'000});
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  for (const std::size_t size : {1UL, 9'000UL, 100'000UL, 250'000UL}) {
    for (int round = 0; round < 9; ++round) {
      REQUIRE(up.carry(41'000));
      REQUIRE(up.write(size) == outcome::moved);
      for (int i = 0; i < 3; ++i) rest(ends);
      CHECK(memory_of(ends) <= size + 2 * dibs::page_size + 2 * dibs::reserved_size);
      while (up.taken < up.written) REQUIRE(up.read(7'000) == outcome::moved);
      rest(ends);
      CHECK(memory_of(ends) <= size + 2 * dibs::page_size + 2 * dibs::reserved_size);
    }
  }
  CHECK(up.problem == "");
  CHECK(ends.client.connection.sends_on() == lane::dmb);
}

TEST_CASE("memory of a connection: an end whose peer never rests gives back what it can") {
  if (dibs::chaos::is_on()) return;
  two_ends ends(stack_options{.buffer_size = buffer});
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  REQUIRE(carry(up, 1'000'000));
  for (int i = 0; i < 3; ++i) {
    for (int step = 0; step < 10; ++step) static_cast<void>(ends.clock().now());
    ends.client.connection.rest(ends.clock().now());
  }
  // The reader tells of its place in quarters of the ring.
  CHECK(memory_of(ends) <= buffer / 4 + 3 * dibs::reserved_size);
  REQUIRE(carry(up, 1'000'000));
}

TEST_CASE("memory of a connection: what an earlier connection left in a DMB goes as well") {
  if (dibs::chaos::is_on()) return;
  two_stacks stacks(stack_options{.buffer_size = buffer});
  {
    two_ends ends(stacks);
    REQUIRE(ends.establish());
    stream up(ends.client, ends.server);
    REQUIRE(carry(up, 1'000'000));
  }
  two_ends ends(stacks);
  REQUIRE(ends.establish());
  CHECK(memory_of(ends) == buffer + dibs::reserved_size);
  stream up(ends.client, ends.server);
  REQUIRE(up.carry(10));
  rest(ends);
  rest(ends);
  CHECK(memory_of(ends) == 2 * dibs::page_size);
  REQUIRE(carry(up, 1'000'000));
}

TEST_CASE("memory of a connection: of a process that talks to itself, too") {
  if (dibs::chaos::is_on()) return;
  two_stacks stacks(stack_options{}, true);
  two_ends ends(stacks);
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  const auto memory = [&] { return stacks.fabric.memory_of(".dmb"); };
  CHECK(memory() <= 2 * dibs::page_size + 3 * 64 * kib);
  REQUIRE(carry(up, 20'000'000));
  CHECK(memory() > 4096 * kib);
  rest(ends);
  rest(ends);
  CHECK(memory() <= 4 * dibs::page_size);
  REQUIRE(carry(up, 1'000'000));
}

TEST_CASE("memory of a connection: what a forked child gives back its parent reserves anew") {
  if (dibs::chaos::is_on()) return;
  two_ends ends(stack_options{.buffer_size = buffer});
  REQUIRE(ends.establish());
  stream up(ends.client, ends.server);
  REQUIRE(carry(up, 1'000'000));
  support::child_process child([&] {
    rest(ends);
    rest(ends);
    return memory_of(ends) == dibs::page_size + dibs::reserved_size ||
                   memory_of(ends) == 2 * dibs::page_size
               ? 0
               : 1;
  });
  CHECK(child.wait() == 0);
  CHECK((backed(ends.client) & 0xFFFFFFFF) == 0);
  REQUIRE(carry(up, 1'000'000));
  CHECK(memory_of(ends) >= buffer);
  CHECK(up.problem == "");
}

TEST_CASE(
    "memory of a connection: on a full tmpfs bytes take TCP, and the DMB when there is room") {
  const auto status = support::in_tiny_tmpfs(2 << 20, [](const std::filesystem::path& at) {
    two_stacks stacks(stack_options{.buffer_size = buffer, .patience_us = 1'000'000'000}, at);
    two_ends ends(stacks);
    if (!ends.establish()) return 1;
    stream up(ends.client, ends.server);
    fill(at, 0);
    if (!up.carry(100) || ends.client.connection.sends_on() != lane::dmb) return 2;
    if (!carry(up, 300'000) || !up.problem.empty()) return 3;
    if (ends.client.connection.sends_on() != lane::tcp) return 4;
    if (!carry(up, 300'000)) return 5;
    empty(at);
    for (int i = 0; i < 10; ++i) {
      if (!up.carry(1000)) return 6;
    }
    if (ends.client.connection.sends_on() != lane::dmb) return 7;
    if (!carry(up, 300'000) || ends.client.connection.sends_on() != lane::dmb) return 8;
    // What there is is used, and never more.
    for (const std::size_t pages : {1U, 3U, 10U, 40U}) {
      rest(ends);
      rest(ends);
      rest(ends);
      fill(at, pages);
      if (!carry(up, 300'000) || !up.problem.empty()) return 9;
      empty(at);
      if (!carry(up, 300'000)) return 10;
    }
    return 0;
  });
  if (!status) {
    MESSAGE("skipped: no permission to mount");
    return;
  }
  if (!dibs::chaos::is_on()) CHECK(*status == 0);
}

TEST_CASE("memory of a connection: without memory and without a mark it waits, and does not spin") {
  if (dibs::chaos::is_on()) return;
  const auto status = support::in_tiny_tmpfs(2 << 20, [](const std::filesystem::path& at) {
    two_stacks stacks(stack_options{.buffer_size = buffer}, at);
    two_ends ends(stacks);
    if (!ends.establish()) return 1;
    smcd::connection& link = ends.client.connection;
    stream up(ends.client, ends.server);
    if (!up.carry(1000)) return 2;
    fill(at, 0);
    // As nobody honest does: it takes back that it took the marks.
    std::atomic<std::uint32_t>& taken = ends.server.side().marks_taken;
    const std::uint32_t honest = taken;
    taken = honest - 4;
    for (int i = 0; i < 3; ++i) {
      if (up.write(9000) != outcome::wait || link.sends_on() != lane::dmb) return 3;
      // Nobody is told of room that there is not.
      if (link.has_room(ends.client.tcp, ends.clock().now()) || link.room_hint() ||
          link.glance_at_room() == smcd::glance::yes) {
        return 4;
      }
    }
    taken = honest;
    if (!link.has_room(ends.client.tcp, ends.clock().now())) return 5;
    if (up.write(9000) != outcome::moved || link.sends_on() != lane::tcp) return 6;
    if (link.has_room(ends.client.tcp, ends.clock().now()) != true) return 7;
    empty(at);
    return carry(up, 100'000) && up.problem.empty() ? 0 : 8;
  });
  if (!status) {
    MESSAGE("skipped: no permission to mount");
    return;
  }
  CHECK(*status == 0);
}

TEST_CASE("memory of a connection: rests of other threads lose nothing of a stream with pauses") {
  two_stacks stacks(stack_options{.patience_us = 100'000}, true);
  two_ends ends(stacks);
  if (!ends.establish()) {
    REQUIRE(dibs::chaos::is_on());
    return;
  }
  std::atomic<bool> is_over{false};
  std::thread resting([&] {
    std::uint64_t now = dibs::ticks();
    while (!is_over) {
      now += std::uint64_t{10'000'000} * dibs::ticks_per_us;
      ends.client.connection.rest(now);
      ends.server.connection.rest(now);
      ::sched_yield();
    }
  });
  constexpr std::uint64_t size = 6'000'000;
  const auto byte_at = [](std::uint64_t place) {
    return static_cast<std::byte>(place * 0x9E3779B97F4A7C15 >> 40);
  };
  std::thread writing([&] {
    support::random random(1);
    std::vector<std::byte> bytes;
    for (std::uint64_t at = 0; at < size && !is_over;) {
      bytes.resize(std::min<std::uint64_t>(size - at, 1 + random.up_to(60'000)));
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_at(at + i);
      std::size_t sent = random.one_in(2)
                             ? 0
                             : ends.client.connection.write_short(ends.client.tcp, bytes.data(),
                                                                  bytes.size(), dibs::ticks());
      if (sent == 0) sent = support::value_or(ends.client.write(bytes, dibs::ticks()), sent);
      at += sent;
      for (int i = random.one_in(8) ? 20 : 0; i > 0; --i) ::sched_yield();
    }
  });
  std::uint64_t at = 0;
  bool is_right = true;
  const std::uint64_t deadline = dibs::ticks() + std::uint64_t{20'000'000} * dibs::ticks_per_us;
  std::vector<std::byte> bytes(40'000);
  while (at < size && is_right && dibs::ticks() < deadline) {
    const std::size_t got =
        support::value_or(ends.server.read(bytes, false, dibs::ticks()), std::size_t{0});
    for (std::size_t i = 0; i < got; ++i) is_right = is_right && bytes[i] == byte_at(at + i);
    at += got;
    if (got == 0) ::sched_yield();
  }
  is_over = true;
  writing.join();
  resting.join();
  CHECK(is_right);
  CHECK(at == size);
}
