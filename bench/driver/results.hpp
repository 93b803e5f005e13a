// SPDX-License-Identifier: Apache-2.0
#pragma once
// What was measured, and what follows from it.

#include <driver/plan.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace bench {

// Figures of a measurement, by name, as the workers said them or the driver
// worked them out:
//   per_second                      rounds, messages, connections or requests
//   p50_ns p99_ns p999_ns           of one of them
//   cpu                             CPUs that both ends kept busy
//   operations cpu_s                of programs: how many, and CPU time of both
//   cpu_s_per_million cpu_s_per_gib seconds of CPU time, both ends
//   kernel_share                    part of the bytes that went through TCP
//   lo_bytes_per_operation          what crossed the loopback interface
//   memory idle_cpu                 bytes for each idle connection, CPUs for all

struct spread {
  double median = 0;
  double min = 0;
  double max = 0;
};

[[nodiscard]] inline spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {median, values.front(), values.back()};
}

// All measurements of one transport for one question; one failed where empty.
struct series {
  const question* what = nullptr;
  const transport* who = nullptr;
  std::vector<figures> rounds;
  std::string failure;

  [[nodiscard]] std::vector<double> values(const std::string& name) const {
    std::vector<double> found;
    for (const figures& one : rounds) {
      if (const auto at = one.find(name); at != one.end()) found.push_back(at->second);
    }
    return found;
  }
  [[nodiscard]] bool has(const std::string& name) const { return !values(name).empty(); }
  [[nodiscard]] spread of(const std::string& name) const { return spread_of(values(name)); }

  // A byte in a hundred may still go the old way.
  [[nodiscard]] std::size_t rounds_on_tcp() const {
    return static_cast<std::size_t>(
        std::count_if(rounds.begin(), rounds.end(), [](const figures& one) {
          const auto share = one.find("kernel_share");
          return share == one.end() || share->second >= 0.01;
        }));
  }
  // Connections that end at once may stay on TCP: nothing to promise there.
  [[nodiscard]] bool breaks_promise() const {
    return who->must_be_smcd && what->promises_smcd() && rounds_on_tcp() > 0;
  }
};

// How much better `a` is than `b`, paired by round because the machine's other
// load changes with time: the median of the ratios. 0: no such pair.
[[nodiscard]] inline double advantage(const series& a, const series& b) {
  const bool is_time = a.what->has_time();
  const std::string name = is_time ? "p50_ns" : "per_second";
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(a.rounds.size(), b.rounds.size()); ++i) {
    const auto x = a.rounds[i].find(name);
    const auto y = b.rounds[i].find(name);
    if (x == a.rounds[i].end() || y == b.rounds[i].end()) continue;
    const double better = is_time ? y->second : x->second;
    const double worse = is_time ? x->second : y->second;
    if (worse > 0) ratios.push_back(better / worse);
  }
  return spread_of(ratios).median;
}

struct results {
  std::vector<series> all;  // by question, then by transport

  [[nodiscard]] const series* find(const question& what, std::string_view transport) const {
    for (const series& one : all) {
      if (one.what == &what && one.who->name == transport) return &one;
    }
    return nullptr;
  }
};

}  // namespace bench
