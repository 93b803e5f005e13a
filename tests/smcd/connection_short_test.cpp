// SPDX-License-Identifier: Apache-2.0
// What goes through the rings at once is the same stream as what goes the long way.
#include <smcd/connection.hpp>

#include <support/random.hpp>
#include <support/two_ends.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <vector>

using support::two_ends;
using support::two_stacks;

namespace {

std::byte byte_at(std::uint64_t place) {
  return static_cast<std::byte>(place * 0x9E3779B97F4A7C15 >> 40);
}

void fill(std::span<std::byte> to, std::uint64_t place) {
  for (std::byte& each : to) each = byte_at(place++);
}

// Of a filler: where it stands, and how many bytes it has.
struct source {
  std::uint64_t place = 0;
  std::size_t size = 0;
  std::size_t asked = 0;

  static std::uint32_t give(void* of, std::span<std::byte> to) noexcept {
    auto& from = *static_cast<source*>(of);
    from.asked = to.size();
    const std::span<std::byte> some = to.first(std::min(to.size(), from.size));
    fill(some, from.place);
    return static_cast<std::uint32_t>(some.size());
  }
};

std::size_t write_short(two_ends& ends, std::span<const std::byte> from) {
  return ends.client.connection.write_short(ends.client.tcp, from.data(), from.size(),
                                            ends.clock().same());
}
// The same out of two buffers.
std::size_t write_parts(two_ends& ends, std::span<std::byte> from, std::size_t first) {
  const std::array<iovec, 2> parts{iovec{from.data(), first},
                                   iovec{from.data() + first, from.size() - first}};
  return ends.client.connection.write_short(ends.client.tcp, parts, ends.clock().same());
}
std::size_t write_in_place(two_ends& ends, source& from, std::size_t most, std::uint64_t now) {
  return ends.client.connection.write_in_place(ends.client.tcp, most, now, source::give, &from);
}

}  // namespace

TEST_CASE("connection: a short read gives all that there is, known before or not") {
  if (dibs::chaos::is_on()) return;
  two_stacks stacks;
  two_ends ends(stacks);
  REQUIRE(ends.establish());
  std::array<std::byte, 100> bytes;
  fill(bytes, 0);
  std::array<std::byte, 100> got{};
  auto& reader = ends.server.connection;
  REQUIRE(ends.client.write(std::span(bytes).first(60)));
  CHECK(reader.read_short(got.data(), 20) == 20);
  REQUIRE(ends.client.write(std::span(bytes).subspan(60)));
  CHECK(reader.read_short(got.data() + 20, 10) == 10);
  CHECK(reader.read_short(got.data() + 30, 100) == 70);
  CHECK(reader.read_short(got.data(), 1) == 0);
  CHECK(got == bytes);
  // What the long way took is not given once more.
  REQUIRE(ends.client.write(bytes));
  CHECK(reader.read_short(got.data(), 10) == 10);
  CHECK(support::value_or(ends.server.read(std::span(got).first(50)), std::size_t{0}) == 50);
  CHECK(reader.read_short(got.data(), 100) == 40);
  CHECK(std::equal(got.begin(), got.begin() + 40, bytes.begin() + 60));
}

TEST_CASE("connection: a filler is asked for what fits in one piece, and may have less") {
  if (dibs::chaos::is_on()) return;
  two_stacks stacks;
  two_ends ends(stacks);
  REQUIRE(ends.establish());
  std::vector<std::byte> got(1 << 20);
  // The long way looks around, and need not for a while.
  const std::uint64_t now = ends.clock().now();
  REQUIRE(ends.client.write(std::span(got).first(1), now));
  REQUIRE(support::value_or(ends.server.read(got), std::size_t{0}) == 1);
  source from{0, 10};
  CHECK(write_in_place(ends, from, 100, now) == 10);
  CHECK(from.asked == 100);
  from = {10, 0};
  CHECK(write_in_place(ends, from, 100, now) == 0);
  CHECK(from.asked == 100);
  REQUIRE(support::value_or(ends.server.read(got), std::size_t{0}) == 10);
  CHECK(got[9] == byte_at(9));
  // A full ring is not worth asking.
  std::size_t sent = 0;
  while (const auto more = ends.client.write(std::span(got).first(1000), now)) sent += *more;
  from = {0, 100};
  CHECK(write_in_place(ends, from, 10'000, now) == 0);
  CHECK(from.asked == 0);
  CHECK(support::value_or(ends.server.read(got), std::size_t{0}) == sent);
}

TEST_CASE("connection: whatever way bytes go, they are one stream") {
  support::random random(1);
  two_stacks stacks;
  two_ends ends(stacks);
  const bool is_established = ends.establish();
  if (!is_established && dibs::chaos::is_on()) return;
  REQUIRE(is_established);
  std::uint64_t written = 0;
  std::uint64_t read = 0;
  std::uint64_t wrong = 0;
  std::vector<std::byte> bytes(50'000);
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t size = 1 + random.below(random.below(4) == 0 ? 40'000 : 300);
    switch (random.below(6)) {
      case 0: {
        fill(std::span(bytes).first(size), written);
        written += write_short(ends, std::span(bytes).first(size));
        break;
      }
      case 1: {
        fill(std::span(bytes).first(size), written);
        written += write_parts(ends, std::span(bytes).first(size), random.below(size + 1));
        break;
      }
      case 2: {
        fill(std::span(bytes).first(size), written);
        if (const auto sent = ends.client.write(std::span(bytes).first(size))) written += *sent;
        break;
      }
      case 3: {
        source from{written, 1 + random.below(40'000)};
        written += write_in_place(ends, from, size, ends.clock().same());
        break;
      }
      default: {
        std::size_t n = 0;
        if (random.below(2) == 0) {
          n = ends.server.connection.read_short(bytes.data(), size);
        } else if (const auto got = ends.server.read(std::span(bytes).first(size))) {
          n = *got;
        }
        for (std::size_t i = 0; i < n; ++i) {
          if (bytes[i] != byte_at(read + i)) ++wrong;
        }
        read += n;
        break;
      }
    }
    REQUIRE(read <= written);
    REQUIRE(ends.server.connection.readable_size(ends.server.tcp) == written - read);
  }
  for (int idle = 0; idle < 1000 && read < written; ++idle) {
    const auto got = ends.server.read(bytes);
    for (std::size_t i = 0; got && i < *got; ++i) {
      if (bytes[i] != byte_at(read + i)) ++wrong;
    }
    if (got) read += *got;
  }
  CHECK(wrong == 0);
  CHECK(read == written);
  CHECK(written > 1'000'000);
}
