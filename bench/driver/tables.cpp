// SPDX-License-Identifier: Apache-2.0
#include <driver/report.hpp>

#include <array>
#include <cstdio>
#include <ostream>

namespace bench {
namespace {

using row = std::vector<std::string>;

std::string number(double value) {
  std::array<char, 32> text{};
  const int digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string percent(double share) { return number(share * 100) + " %"; }

// A column: a figure, and what to divide it by to get the unit of its head.
// The first one is the answer, and shows its spread.
struct column {
  const char* head;
  const char* figure;
  double divisor;
};

std::vector<column> columns_of(const question& what) {
  const column p50{"p50 us", "p50_ns", 1e3};
  const column p99{"p99 us", "p99_ns", 1e3};
  const column p999{"p99.9 us", "p999_ns", 1e3};
  const column rate{"1000/s", "per_second", 1e3};
  const column cpu_each{"CPU s/M", "cpu_s_per_million", 1};
  const column bytes{"GB/s", "per_second", 1e9 / static_cast<double>(what.size)};
  const column cpu_of_bytes{"CPU s/GiB", "cpu_s_per_gib", 1};
  if (what.what == kind::idle) return {{"KiB each", "memory", 1024}, {"CPUs", "idle_cpu", 1}};
  if (what.has_time()) return {p50, p99, p999, cpu_each};
  if (!what.is_flow) return {rate, p50, p99, p999, cpu_each};
  if (what.size >= 4096) return {bytes, cpu_of_bytes};
  return {{"M/s", "per_second", 1e6}, bytes, cpu_each, cpu_of_bytes};
}

std::string carrier(const series& one) {
  if (!one.failure.empty()) return "FAILED: " + one.failure;
  if (one.has("lo_bytes_per_operation")) {
    return number(one.of("lo_bytes_per_operation").median) + " B/op on lo";
  }
  if (one.who->family == "ring") return "memory";
  if (one.who->family == "unix") return "UNIX socket";
  if (one.who->has_sockmap) return "sockmap";
  if (!one.who->must_be_smcd) return "TCP";
  if (!one.what->promises_smcd()) return "-";
  if (!one.breaks_promise()) return "SMC-D";
  return "NOT SMC-D in " + std::to_string(one.rounds_on_tcp()) + " of " +
         std::to_string(one.rounds.size());
}

row head_of(const question& what) {
  row made{"transport"};
  for (const column& by : columns_of(what)) {
    made.emplace_back(by.head);
    if (made.size() == 2) made.emplace_back("min - max");
  }
  made.insert(made.end(), {"x TCP", "of ring", "carried by"});
  return made;
}

row row_of(const series& one, const results& in) {
  row made{std::string(one.who->name)};
  for (const column& by : columns_of(*one.what)) {
    const bool is_known = one.has(by.figure);
    const spread seen = one.of(by.figure);
    made.push_back(is_known ? number(seen.median / by.divisor) : "-");
    if (made.size() > 2) continue;
    made.push_back(is_known ? number(seen.min / by.divisor) + " - " + number(seen.max / by.divisor)
                            : "-");
  }
  const auto compare = [&](std::string_view to) {
    const series* other = in.find(*one.what, to);
    return other != nullptr ? advantage(one, *other) : 0.0;
  };
  const double to_tcp = compare("tcp");
  const double to_ring = compare("ring");
  made.push_back(to_tcp > 0 ? number(to_tcp) : "-");
  made.push_back(to_ring > 0 ? percent(to_ring) : "-");
  made.push_back(carrier(one));
  return made;
}

void print_rows(std::ostream& to, const std::vector<row>& rows) {
  std::vector<std::size_t> widths(rows[0].size());
  for (const row& one : rows) {
    for (std::size_t i = 0; i < one.size(); ++i) widths[i] = std::max(widths[i], one[i].size());
  }
  for (const row& one : rows) {
    std::string line = "  ";
    for (std::size_t i = 0; i < one.size(); ++i) {
      const std::string space(widths[i] - one[i].size(), ' ');
      const bool is_text = i == 0 || i + 1 == one.size();
      line += (is_text ? one[i] + space : space + one[i]) + "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    to << line << '\n';
  }
}

}  // namespace

void print_tables(std::ostream& to, const report& of) {
  to << of.where.cpu << ", " << of.where.kernel << '\n'
     << of.how.repeats << " times "
     << (of.how.rounds > 0 ? std::to_string(of.how.rounds) + " rounds"
                           : std::to_string(of.how.time_ms) + " ms")
     << ", transports in turn; others used " << percent(of.others)
     << " of the machine meanwhile\n"
        "median (min - max); x TCP, of ring: medians of the ratios, more is better\n";
  for (const std::string& remark : of.remarks) to << remark << '\n';
  for (const question& what : questions()) {
    std::vector<row> rows{head_of(what)};
    for (const series& one : of.found.all) {
      if (one.what == &what) rows.push_back(row_of(one, of.found));
    }
    if (rows.size() == 1) continue;
    to << '\n' << what.title << " (" << what.name << ")\n";
    print_rows(to, rows);
  }
  for (const std::string& alarm : alarms(of.found)) to << "\n*** " << alarm << " ***\n";
}

std::vector<std::string> alarms(const results& in) {
  std::vector<std::string> made;
  for (const series& one : in.all) {
    const std::string name = std::string(one.what->name) + ", " + std::string(one.who->name);
    if (!one.failure.empty()) {
      made.push_back(name + ": FAILED: " + one.failure);
    } else if (one.breaks_promise()) {
      made.push_back(name + ": NOT SMC-D, its figures are worth nothing");
    }
  }
  return made;
}

}  // namespace bench
