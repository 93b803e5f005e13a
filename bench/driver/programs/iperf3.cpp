// SPDX-License-Identifier: Apache-2.0
#include <driver/plan.hpp>
#include <driver/programs/all.hpp>

namespace bench {

void add_iperf3(std::vector<question>& to) {
  constexpr std::size_t size = 128 * 1024;
  program_pair programs;
  programs.name = "iperf3";
  programs.needs = {"iperf3"};
  programs.server = [](const meeting& at) {
    return arguments{"iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", at.port};
  };
  programs.client = [](const meeting& at) {
    return arguments{"iperf3", "-c", "127.0.0.1", "-p", at.port, "-t", "1", "--json"};
  };
  programs.read = [](const std::string& output) {
    figures found;
    const std::size_t sum = output.find("\"sum_received\"");
    if (sum == std::string::npos) return found;
    const std::string_view received = std::string_view(output).substr(sum);
    add_number(found, "per_second", received, "\"bits_per_second\":", 1.0 / 8 / size);
    add_number(found, "operations", received, "\"bytes\":", 1.0 / size);
    return found;
  };
  to.push_back({.name = "iperf3",
                .title = "iperf3, 128 KiB messages one way",
                .what = kind::program,
                .size = size,
                .where = placement::free,
                .is_flow = true,
                .programs = programs});
}

}  // namespace bench
