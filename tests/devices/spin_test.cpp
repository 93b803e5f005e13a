// SPDX-License-Identifier: Apache-2.0
#include <devices/spin.hpp>

#include <doctest/doctest.h>

using dibs::spin_budget;
using dibs::ticks;
using dibs::ticks_per_us;

namespace {

constexpr std::uint64_t longest = 50 * ticks_per_us;
constexpr auto never = [] { return false; };
constexpr auto elsewhere = [] { return false; };

}  // namespace

TEST_CASE("spin: what is there already costs one look") {
  spin_budget budget;
  int looks = 0;
  CHECK(budget.spin(
      longest, [&] { return ++looks == 1; }, elsewhere));
  CHECK(looks == 1);
}

TEST_CASE("spin: no budget is one look") {
  spin_budget budget;
  int looks = 0;
  CHECK(!budget.spin(
      0, [&] { return ++looks, false; }, elsewhere));
  CHECK(looks == 1);
}

TEST_CASE("spin: what comes soon is found") {
  spin_budget budget;
  for (int i = 0; i < 100; ++i) {
    int looks = 0;
    const bool found = budget.spin(
        longest, [&] { return ++looks == 5; }, elsewhere);
    CHECK(found);
    CHECK(looks == 5);
  }
}

TEST_CASE("spin: what never comes is soon not waited for, and tried again once in a while") {
  spin_budget budget;
  int spun = 0;
  int last_spun = 0;
  for (int i = 1; i <= 400; ++i) {
    int looks = 0;
    CHECK(!budget.spin(
        longest, [&] { return ++looks, false; }, elsewhere));
    if (looks > 1) {
      ++spun;
      last_spun = i;
    }
  }
  CHECK(spun >= 2);
  CHECK(spun < 100);
  CHECK(last_spun > 300);
}

TEST_CASE("spin: it is bounded by what the user allows") {
  spin_budget budget;
  // Learns that long waits pay off.
  for (int i = 0; i < 10; ++i) {
    const std::uint64_t start = ticks();
    static_cast<void>(budget.spin(
        longest, [&] { return ticks() - start > longest / 4; }, elsewhere));
  }
  std::uint64_t shortest = ~std::uint64_t{0};
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t start = ticks();
    static_cast<void>(budget.spin(longest, never, elsewhere));
    shortest = std::min(shortest, ticks() - start);
  }
  // Others may take the CPU in the middle: the best of many counts.
  CHECK(shortest < 4 * longest);
}

TEST_CASE("spin: a lucky find makes the next wait patient again") {
  spin_budget budget;
  for (int i = 0; i < 100; ++i) static_cast<void>(budget.spin(longest, never, elsewhere));
  bool has_found = false;
  for (int i = 0; i < 100 && !has_found; ++i) {
    int looks = 0;
    has_found = budget.spin(
        longest, [&] { return ++looks == 3; }, elsewhere);
  }
  REQUIRE(has_found);
  int looks = 0;
  static_cast<void>(budget.spin(
      longest, [&] { return ++looks, false; }, elsewhere));
  CHECK(looks > 8);
}

TEST_CASE("spin: the peer is given the CPU that both are on") {
  spin_budget budget;
  int asked = 0;
  int looks = 0;
  const bool found = budget.spin(
      longest, [&] { return ++looks == 20; }, [&] { return ++asked, true; });
  if (found) CHECK(asked >= 2);
  CHECK(asked >= 1);
}

TEST_CASE("ticks: they do not go back") {
  std::uint64_t last = ticks();
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t now = ticks();
    CHECK(static_cast<std::int64_t>(now - last) >= 0);
    last = now;
  }
}
