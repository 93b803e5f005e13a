// SPDX-License-Identifier: Apache-2.0
#include <smcd/ring.hpp>

#include <support/random.hpp>

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

using smcd::buffer_walk;
using smcd::copy_way;

namespace {

std::vector<iovec> cut(std::span<std::byte> whole, support::random& random) {
  std::vector<iovec> parts;
  while (!whole.empty()) {
    const std::size_t n = random.up_to(whole.size());
    parts.push_back({whole.data(), n});
    whole = whole.subspan(n);
  }
  if (random.one_in(2)) parts.push_back({nullptr, 0});
  return parts;
}

}  // namespace

TEST_CASE("ring: a walk skips empty buffers and ends at the last one") {
  char a[3] = "ab";
  char b[2] = "c";
  const iovec parts[] = {{nullptr, 0}, {a, 2}, {nullptr, 0}, {b, 1}, {a, 0}};
  CHECK(smcd::total_size(parts) == 3);
  buffer_walk walk(parts);
  CHECK(walk.here().data() == reinterpret_cast<std::byte*>(a));
  CHECK(walk.here().size() == 2);
  walk.skip(1);
  CHECK(walk.here().size() == 1);
  walk.skip(1);
  CHECK(walk.here().data() == reinterpret_cast<std::byte*>(b));
  walk.skip(1);
  CHECK(walk.here().empty());
  CHECK(buffer_walk({}).here().empty());
  CHECK(smcd::total_size({}) == 0);
}

TEST_CASE("ring: bytes go in and out the same, over every edge") {
  support::random random(3);
  for (int round = 0; round < 3000; ++round) {
    const auto size = static_cast<std::uint32_t>(random.between(1, 64));
    std::vector<std::byte> ring(size);
    const smcd::place at{0, static_cast<std::uint32_t>(random.below(size))};
    const std::size_t n = random.between(0, size);
    std::vector<std::byte> from(n + random.below(5));
    for (std::byte& b : from) b = static_cast<std::byte>(random.next());
    std::vector<std::byte> to(n + random.below(5));
    const auto in = cut(from, random);
    const auto out = cut(to, random);
    buffer_walk source(in);
    smcd::copy_ring<copy_way::into_ring>(ring, at.count, source, n);
    for (std::size_t i = 0; i < n; ++i) REQUIRE(ring[(at.count + i) % size] == from[i]);
    // In two pieces: a walk goes on where it stopped.
    buffer_walk target(out);
    const std::size_t first = random.below(n + 1);
    smcd::copy_ring<copy_way::out_of_ring>(ring, at.count, target, first);
    const auto later = smcd::advance(at, static_cast<std::uint32_t>(first), size);
    smcd::copy_ring<copy_way::out_of_ring>(ring, later.count, target, n - first);
    REQUIRE(std::equal(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(n), to.begin()));
    for (std::size_t i = n; i < to.size(); ++i) REQUIRE(to[i] == std::byte{0});
  }
}
