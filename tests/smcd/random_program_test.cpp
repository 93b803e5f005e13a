// SPDX-License-Identifier: Apache-2.0
// Random programs over a connection, compared with a plain byte queue: whatever
// the lanes do, bytes come out as they went in, in order, all of them.
#include <smcd/connection.hpp>

#include <doctest/doctest.h>

#include <support/random.hpp>
#include <support/two_ends.hpp>

#include <cstdlib>
#include <string>
#include <vector>

namespace {

using support::end_point;

// Byte number `at` of the stream of one direction.
std::byte byte_at(std::uint64_t at, bool upward) {
  const std::uint64_t mixed = (at + (upward ? 1 : 0x1000003)) * 0x9E3779B97F4A7C15;
  return static_cast<std::byte>(mixed >> 40);
}

struct direction {
  end_point* from;
  end_point* to;
  bool upward;
  std::uint64_t written = 0;
  std::uint64_t read = 0;
  bool is_shut = false;
  bool has_ended = false;
};

void write_once(direction& way, support::random& random) {
  if (way.is_shut) return;
  std::vector<std::byte> bytes(1 + random.up_to(40'000));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_at(way.written + i, way.upward);
  const auto sent = way.from->write(bytes);
  if (sent) {
    REQUIRE(*sent <= bytes.size());
    way.written += *sent;
  } else {
    REQUIRE(dibs::is_would_block(sent.error()));
  }
}

void read_once(direction& way, support::random& random) {
  if (way.has_ended) return;
  std::vector<std::byte> bytes(1 + random.up_to(60'000));
  const bool is_peek = random.one_in(8);
  const auto got = way.to->read(bytes, is_peek);
  if (!got) {
    REQUIRE(dibs::is_would_block(got.error()));
    return;
  }
  if (*got == 0) {
    // The end, and not before the last byte.
    REQUIRE(way.is_shut);
    REQUIRE(way.read == way.written);
    way.has_ended = true;
    return;
  }
  REQUIRE(way.read + *got <= way.written);
  for (std::size_t i = 0; i < *got; ++i) {
    if (bytes[i] != byte_at(way.read + i, way.upward)) {
      FAIL("byte ", way.read + i, way.upward ? " upward" : " downward", " is wrong");
    }
  }
  if (!is_peek) way.read += *got;
}

struct outcome {
  bool was_established = false;
  std::uint64_t dmb_bytes = 0;
  std::uint32_t switches = 0;
};

outcome run_program(std::uint64_t seed, support::two_stacks& stacks) {
  support::random random(seed);
  support::ends_options how;
  how.rules.seed = seed;
  how.rules.is_random = true;
  how.rules.capacity = 300 + random.up_to(60'000);
  how.rules.most_sent = 1 + random.up_to(20'000);
  how.rules.most_received = 1 + random.up_to(20'000);
  how.rules.most_arriving = 1 + random.up_to(20'000);
  support::two_ends ends(stacks, how);
  direction ways[2] = {{&ends.client, &ends.server, true}, {&ends.server, &ends.client, false}};

  const std::size_t steps = 20 + random.below(1500);
  // Some programs are lopsided: one side reads late.
  const std::size_t eagerness[2] = {1 + random.below(6), 1 + random.below(6)};
  for (std::size_t step = 0; step < steps; ++step) {
    const std::size_t which = random.below(2);
    direction& way = ways[which];
    if (random.one_in(1 + eagerness[which])) {
      read_once(way, random);
    } else if (random.one_in(10)) {
      static_cast<void>(way.to->connection.has_input(way.to->tcp));
      static_cast<void>(way.from->connection.has_room(way.from->tcp, ends.clock().now()));
    } else if (random.one_in(12)) {
      end_point& end = *(random.one_in(2) ? way.from : way.to);
      for (int i = 0; i < 5; ++i) static_cast<void>(ends.clock().now());
      end.connection.rest(ends.clock().now());
    } else if (random.one_in(2500)) {
      way.from->connection.stay_on_tcp(smcd::decline_code::option_unsupported);
    } else {
      write_once(way, random);
    }
  }
  outcome result;
  result.was_established = ends.client.connection.is_established();
  for (direction& way : ways) {
    way.is_shut = true;
    way.from->shutdown_write();
  }
  for (int i = 0; i < 1'000'000 && !(ways[0].has_ended && ways[1].has_ended); ++i) {
    read_once(ways[i % 2], random);
  }
  REQUIRE(ways[0].has_ended);
  REQUIRE(ways[1].has_ended);
  for (const end_point* end : {&ends.client, &ends.server}) {
    if (end->connection.is_young()) continue;  // for want of memory
    result.dmb_bytes += end->connection.state().receiving.dmb_bytes();
    result.switches += end->connection.state().sending.marks;
    REQUIRE(end->connection.state().receiving.offset() ==
            (end == &ends.server ? ways[0].written : ways[1].written));
  }
  return result;
}

}  // namespace

TEST_CASE("random programs get the bytes of a plain queue, whatever the lanes do") {
  const char* only = std::getenv("SEED");
  const std::uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 0) : 1;
  const char* many = std::getenv("PROGRAMS");
  const std::uint64_t count = only != nullptr   ? 1
                              : many != nullptr ? std::strtoull(many, nullptr, 0)
                                                : 2000;
  // Rings of 16 KiB, some of 128, no patience: a full ring is left at once.
  support::two_stacks stacks;
  support::two_stacks large(support::stack_options{.buffer_size = 128 * 1024});
  std::uint64_t established = 0;
  std::uint64_t dmb_bytes = 0;
  std::uint64_t switches = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    INFO("seed ", seed, " (run it alone with SEED=", seed, ")");
    const outcome result = run_program(seed, seed % 8 == 0 ? large : stacks);
    established += result.was_established ? 1 : 0;
    dmb_bytes += result.dmb_bytes;
    switches += result.switches;
  }
  if (only == nullptr && !dibs::chaos::is_on()) {
    // The programs are worth something only if the lanes were really used.
    CHECK(established > count / 3);
    CHECK(dmb_bytes > count * 5'000);
    CHECK(switches > count * 4);
  }
}
