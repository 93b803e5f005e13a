// SPDX-License-Identifier: Apache-2.0
#include <smcd/pieces.hpp>

#include <devices/chaos.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cstdint>

using smcd::pieces;

namespace {

constexpr std::uint32_t record = sizeof(smcd::cdc::record);

// By looking at each byte.
std::uint64_t slowly(std::uint32_t dmb_size, std::uint32_t at, std::uint32_t n) {
  const std::uint32_t size = dmb_size - record;
  const std::uint32_t length = std::max(dmb_size / 64, dibs::reserved_size);
  std::uint64_t mask = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    mask |= std::uint64_t{1} << (((at + i) % size + record) / length);
  }
  return mask;
}

}  // namespace

TEST_CASE("pieces: a range of the ring lies where its bytes lie, also around the end") {
  for (std::uint32_t size = dibs::min_dmb_size; size <= 256 * 1024; size *= 2) {
    const pieces parts(size);
    const std::uint32_t ring = size - record;
    for (std::uint32_t at = 0; at < ring; at += 3989) {
      for (const std::uint32_t n : {1U, 2U, 64U, 8160U, 8161U, 10000U, ring / 2, ring - 1, ring}) {
        if (n > ring) continue;
        CAPTURE(size);
        CAPTURE(at);
        CAPTURE(n);
        REQUIRE(parts.of_ring(at, n) == slowly(size, at, n));
      }
    }
    // The edges of a piece.
    CHECK(parts.of_ring(8192 - record - 1, 1) == 1);
    CHECK(parts.of_ring(8192 - record - 1, 2) == 3);
    CHECK(parts.of_ring(8192 - record, 1) == 2);
  }
}

TEST_CASE("pieces: at most 64, of which a new DMB has what the device reserves") {
  const auto count = [](std::uint32_t size) { return std::popcount(~pieces(size).no_piece()); };
  CHECK(count(16 * 1024) == 2);
  CHECK(count(64 * 1024) == 8);
  CHECK(count(256 * 1024) == 32);
  CHECK(count(512 * 1024) == 64);
  CHECK(count(dibs::max_dmb_size) == 64);
  for (std::uint32_t size = dibs::min_dmb_size; size <= dibs::max_dmb_size; size *= 2) {
    const pieces parts(size);
    const std::uint64_t real = ~parts.no_piece();
    CHECK(parts.of_ring(0, size - record) == real);
    CHECK(parts.begin(0) == 0);
    CHECK(parts.begin(1) == std::max(size / 64, dibs::reserved_size) - record);
    CHECK(parts.begin(std::popcount(real)) == size - record);
    CHECK((parts.at_first() & real) == (size <= 512 * 1024 ? 1 : 0));
  }
}

TEST_CASE("pieces: a DMB of chaos is one piece that nobody gives back") {
  for (std::uint32_t size = dibs::chaos::min_dmb_size; size <= dibs::reserved_size; size *= 2) {
    CHECK(pieces(size).no_piece() == pieces::all);
    CHECK(pieces(size).at_first() == pieces::all);
    CHECK(pieces(size).of_ring(0, size - record) == 1);
  }
}
