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

// The unit of a question's main figures, and what to divide by to get it.
struct scale {
  const char* name;
  const char* figure;
  double divisor;
};

std::vector<scale> scales_of(const question& what) {
  switch (what.what) {
    case kind::ping: return {{"p50 us", "p50_ns", 1e3}, {"p99 us", "p99_ns", 1e3}};
    case kind::connect: return {{"1000/s", "per_second", 1e3}, {"p50 us", "p50_ns", 1e3}};
    case kind::stream: break;
  }
  if (what.size < 4096) return {{"M/s", "per_second", 1e6}};
  return {{"GB/s", "per_second", 1e9 / static_cast<double>(what.size)}};
}

std::string carrier(const series& one) {
  if (!one.failure.empty()) return "FAILED: " + one.failure;
  if (one.who->family == "ring") return "memory";
  if (one.who->family == "unix") return "UNIX socket";
  if (!one.who->must_be_smcd) return "TCP";
  if (one.what->what == kind::connect) return "-";
  if (!one.breaks_promise()) return "SMC-D";
  return "NOT SMC-D in " + std::to_string(one.rounds_on_tcp()) + " of " +
         std::to_string(one.rounds.size());
}

row row_of(const series& one, const results& in) {
  row made{std::string(one.who->name)};
  for (const scale& by : scales_of(*one.what)) {
    const spread seen = one.of(by.figure);
    made.push_back(one.has(by.figure) ? number(seen.median / by.divisor) : "-");
    made.push_back(one.has(by.figure)
                       ? number(seen.min / by.divisor) + " - " + number(seen.max / by.divisor)
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
  made.push_back(one.has("cpu") ? number(one.of("cpu").median) : "-");
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
  for (const question& what : questions) {
    std::vector<row> rows;
    for (const series& one : of.found.all) {
      if (one.what != &what) continue;
      if (rows.empty()) {
        row head{"transport"};
        for (const scale& by : scales_of(what)) {
          head.emplace_back(by.name);
          head.emplace_back("min - max");
        }
        head.insert(head.end(), {"x TCP", "of ring", "CPUs", "carried by"});
        rows.push_back(head);
      }
      rows.push_back(row_of(one, of.found));
    }
    if (rows.empty()) continue;
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
