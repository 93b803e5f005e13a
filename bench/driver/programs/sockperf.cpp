// SPDX-License-Identifier: Apache-2.0
#include <driver/plan.hpp>
#include <driver/programs/all.hpp>

namespace bench {

void add_sockperf(std::vector<question>& to) {
  program_pair programs;
  programs.name = "sockperf";
  programs.needs = {"sockperf"};
  programs.server = [](const meeting& at) {
    return arguments{"sockperf", "server", "--tcp", "-i", "127.0.0.1", "-p", at.port};
  };
  programs.client = [](const meeting& at) {
    // It numbers messages, and has few numbers unless many a second are asked for.
    return arguments{"sockperf", "ping-pong", "--tcp", "-i", "127.0.0.1", "-p",      at.port,
                     "-t",       "1",         "-m",    "64", "--mps",     "5000000", "--full-rtt"};
  };
  programs.read = [](const std::string& output) {
    figures found;
    add_number(found, "per_second", output, "Round trip is");
    if (found["per_second"] > 0) found["per_second"] = 1e6 / found["per_second"];
    add_number(found, "operations", output, "SentMessages=");
    add_number(found, "p50_ns", output, "percentile 50.000 =", 1e3);
    add_number(found, "p99_ns", output, "percentile 99.000 =", 1e3);
    add_number(found, "p999_ns", output, "percentile 99.900 =", 1e3);
    return found;
  };
  to.push_back({.name = "sockperf",
                .title = "sockperf ping-pong, 64 B",
                .what = kind::program,
                .where = placement::free,
                .programs = programs});
}

}  // namespace bench
