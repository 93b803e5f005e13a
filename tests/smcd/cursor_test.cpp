// SPDX-License-Identifier: Apache-2.0
#include <smcd/cursor.hpp>

#include <support/random.hpp>

#include <doctest/doctest.h>

#include <cstdint>

using smcd::advance;
using smcd::cursor;
using smcd::distance;

namespace {

constexpr std::uint32_t ring = 16 * 1024 - 32;

// The same place as a number that does not wrap, modulo 2^16 rounds.
std::uint64_t number_of(cursor at, std::uint32_t size) {
  return std::uint64_t{at.wrap} * size + at.count;
}

// What a peer would say after n more bytes.
constexpr cursor step(cursor at, std::uint32_t n, std::uint32_t size) {
  return cursor_of(advance(smcd::place{at.wrap, at.count}, n, size));
}

}  // namespace

static_assert(ring == 16352);
static_assert(step({0, 0}, ring, ring) == cursor{1, 0});
static_assert(distance({0, 0}, {1, 0}, ring) == ring);

TEST_CASE("cursor: a 16 KiB DMB's ring is full and empty as the protocol says") {
  const cursor full = step({0, 0}, ring, ring);
  CHECK(full == cursor{1, 0});
  CHECK(distance({0, 0}, full, ring) == ring);
  const cursor consumer = step({0, 0}, ring, ring);
  CHECK(distance(consumer, full, ring) == 0);
  CHECK(step({0xFFFF, ring - 1}, 1, ring) == cursor{0, 0});
  CHECK(step({0xFFFF, 0}, ring, ring) == cursor{0, 0});
  CHECK(distance({0xFFFF, 0}, {0, 0}, ring) == ring);
  CHECK(distance({0xFFFF, ring - 1}, {0, 0}, ring) == 1);
}

TEST_CASE("cursor: nothing and everything are steps like others") {
  CHECK(step({3, 5}, 0, ring) == cursor{3, 5});
  CHECK(step({3, 5}, ring, ring) == cursor{4, 5});
  CHECK(step({3, ring - 1}, 1, ring) == cursor{4, 0});
  CHECK(step({3, ring - 2}, 1, ring) == cursor{3, ring - 1});
  CHECK(distance({3, 5}, {3, 5}, ring) == 0);
  CHECK(distance({3, 5}, {4, 5}, ring) == ring);
  CHECK(distance({3, 5}, {4, 4}, ring) == ring - 1);
}

TEST_CASE("cursor: what no correct peer writes is no distance") {
  // Outside the ring.
  CHECK(!distance({0, ring}, {0, 0}, ring));
  CHECK(!distance({0, 0}, {0, ring}, ring));
  CHECK(!distance({0, 0}, {0, 0xFFFFFFFF}, ring));
  CHECK(!distance({0, 0xFFFFFFFF}, {1, 0}, ring));
  // Backwards, or more than a ring.
  CHECK(!distance({0, 5}, {0, 4}, ring));
  CHECK(!distance({0, 5}, {1, 6}, ring));
  CHECK(!distance({0, 5}, {2, 0}, ring));
  CHECK(!distance({1, 5}, {0, 5}, ring));
  CHECK(!distance({0, 0}, {0xFFFF, 0}, ring));
  CHECK(!distance({0, 0}, {0x8000, 0}, ring));
  // No ring at all.
  CHECK(!distance({0, 0}, {0, 0}, 0));
}

TEST_CASE("cursor: producer and consumer agree through 2^16 rounds and more") {
  for (const std::uint32_t size : {ring, std::uint32_t{7}, std::uint32_t{1}}) {
    support::random random(size);
    cursor producer;
    cursor consumer;
    std::uint64_t written = 0;
    std::uint64_t read = 0;
    const std::uint64_t most = std::uint64_t{size} * 0x10000 * 2 + 12345;
    while (written < most) {
      const auto used = distance(consumer, producer, size);
      REQUIRE(used);
      REQUIRE(*used == written - read);
      // Whole rings, so that many rounds do not take long.
      const auto n = static_cast<std::uint32_t>(random.one_in(4) ? random.below(size - *used + 1)
                                                                 : size - *used);
      producer = step(producer, n, size);
      written += n;
      REQUIRE(number_of(producer, size) == written % (std::uint64_t{size} << 16));
      const auto left = distance(consumer, producer, size);
      REQUIRE(left);
      const auto m = static_cast<std::uint32_t>(random.one_in(4) ? random.below(*left + 1) : *left);
      consumer = step(consumer, m, size);
      read += m;
    }
    CHECK(producer.wrap < 0x8000);
  }
}

TEST_CASE("cursor: a distance is a ring at most, whatever the peer writes") {
  support::random random(11);
  for (int i = 0; i < 200000; ++i) {
    const cursor ours{static_cast<std::uint16_t>(random.next()),
                      static_cast<std::uint32_t>(random.below(ring))};
    const cursor theirs{random.one_in(2) ? ours.wrap : static_cast<std::uint16_t>(random.next()),
                        static_cast<std::uint32_t>(random.up_to(0xFFFFFFFF))};
    const auto ahead = distance(ours, theirs, ring);
    const auto behind = distance(theirs, ours, ring);
    REQUIRE(ahead.value_or(0) <= ring);
    REQUIRE(behind.value_or(0) <= ring);
    if (ahead) REQUIRE(step(ours, *ahead, ring) == theirs);
    if (behind) REQUIRE(step(theirs, *behind, ring) == ours);
  }
}

TEST_CASE("cursor: a place counts all bytes, beyond the rounds that a peer is told") {
  smcd::place at{0xFFFF, ring - 1};
  CHECK(smcd::bytes_before(at, ring) == std::uint64_t{0x10000} * ring - 1);
  at = advance(at, 1, ring);
  CHECK(at == smcd::place{0x10000, 0});
  CHECK(cursor_of(at) == cursor{0, 0});
  CHECK(smcd::bytes_before(at, ring) == std::uint64_t{0x10000} * ring);
}
