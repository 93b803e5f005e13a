// SPDX-License-Identifier: Apache-2.0
#pragma once
// The end of `dibsock perf` that measures.

#include <tools/perf/histogram.hpp>
#include <tools/perf/protocol.hpp>
#include <tools/perf/transports.hpp>

#include <chrono>
#include <cstdint>
#include <string>

namespace tools::perf {

struct plan {
  place server;
  test kind = test::stream;
  std::uint32_t size = 0;
  std::chrono::milliseconds time{};
};

struct outcome {
  double seconds = 0;
  std::uint64_t bytes = 0;     // of messages, one way
  std::uint64_t messages = 0;  // for a ping: round trips
  histogram round_trips;       // nanoseconds
  std::string mode;
};

// Runs until the time is over or somebody stops it. Throws std::runtime_error
// (system_error for the connection) if no measurement could be made.
template <class Transport>
[[nodiscard]] outcome measure(const plan&);

}  // namespace tools::perf
