// SPDX-License-Identifier: Apache-2.0
#include <tools/perf/histogram.hpp>
// first, to prove that it stands alone
#include <doctest/doctest.h>

#include <limits>
#include <memory>

using tools::perf::histogram;

TEST_CASE("histogram: without measurements everything is 0") {
  const auto empty = std::make_unique<histogram>();
  CHECK(empty->count() == 0);
  CHECK(empty->min() == 0);
  CHECK(empty->max() == 0);
  CHECK(empty->percentile(0.5) == 0);
}

TEST_CASE("histogram: small values are exact") {
  const auto times = std::make_unique<histogram>();
  for (std::uint64_t value = 1; value <= 100; ++value) times->add(value);
  CHECK(times->min() == 1);
  CHECK(times->percentile(0.01) == 1);
  CHECK(times->percentile(0.5) == 50);
  CHECK(times->percentile(0.99) == 99);
  CHECK(times->percentile(1) == 100);
}

TEST_CASE("histogram: any value is found again, at most 1/128 too high") {
  for (std::uint64_t value = 1; value < std::numeric_limits<std::uint64_t>::max() / 3;
       value = value * 3 + 1) {
    const auto times = std::make_unique<histogram>();
    times->add(value);
    times->add(std::numeric_limits<std::uint64_t>::max());
    CHECK(times->percentile(0.5) >= value);
    CHECK(times->percentile(0.5) - value <= value / 128);
    CHECK(times->min() == value);
    CHECK(times->percentile(1) == std::numeric_limits<std::uint64_t>::max());
  }
}
