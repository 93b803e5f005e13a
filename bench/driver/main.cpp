// SPDX-License-Identifier: Apache-2.0
// The command `dibsock-bench`. Goes through the plan again and again, so that
// whatever else the machine does meets all transports alike.
#include <driver/child.hpp>
#include <driver/plan.hpp>
#include <driver/report.hpp>
#include <driver/run.hpp>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>

namespace bench {
namespace {

// An empty list wants all.
bool is_wanted(const std::vector<std::string>& list, std::string_view name) {
  return list.empty() || std::any_of(list.begin(), list.end(),
                                     [&](const std::string& one) { return is_named(name, one); });
}

// All series to measure; a remark for each transport that must be left out.
void lay_out(report& to, runner& with) {
  std::vector<const transport*> able;
  for (const transport& who : transports) {
    if (!is_wanted(to.how.transports, who.name)) continue;
    const std::string obstacle = with.obstacle(who);
    if (obstacle.empty()) {
      able.push_back(&who);
    } else {
      to.remarks.push_back("without " + std::string(who.name) + ": " + obstacle);
    }
  }
  for (const question& what : questions()) {
    if (!is_wanted(to.how.questions, what.name)) continue;
    if (to.how.is_quick && what.is_detail && what.programs) continue;
    if (const std::string obstacle = with.obstacle(what); !obstacle.empty()) {
      to.remarks.push_back("without " + what.name + ": " + obstacle);
      continue;
    }
    for (const transport* who : able) {
      // --quick asks whether it works, not how others do.
      if (to.how.is_quick && what.programs && !who->is_preloaded) continue;
      if (answers(*who, what)) to.found.all.push_back({&what, who, {}, {}});
    }
  }
}

void measure_all(report& to, runner& with) {
  const bool is_watched = ::isatty(STDERR_FILENO) != 0;
  for (unsigned round = 0; round < to.how.repeats; ++round) {
    for (series& one : to.found.all) {
      if (round > 0 && one.what->is_once) continue;
      if (is_watched) {
        std::cerr << "\r\033[K" << round + 1 << '/' << to.how.repeats << ' ' << one.what->name
                  << ' ' << one.who->name << std::flush;
      }
      figures found;
      try {
        found = with.measure(*one.who, *one.what);
      } catch (const std::runtime_error& failure) {
        if (is_stopping()) throw;
        one.failure = failure.what();
      }
      one.rounds.push_back(found);
    }
  }
  if (is_watched) std::cerr << "\r\033[K";
}

// All forms of the report, as files.
void write_all(report& made) {
  const std::filesystem::path& directory = made.how.output;
  try {
    draw(directory, made);
  } catch (const std::runtime_error& failure) {
    made.remarks.push_back(std::string("without plots: ") + failure.what());
  }
  std::ofstream tables(directory / "report.txt");
  print_tables(tables, made);
  std::ofstream json(directory / "report.json");
  print_json(json, made);
  if (!tables.flush() || !json.flush()) {
    throw std::runtime_error(directory.native() + " could not be written to");
  }
}

int run(int count, char** values) {
  const auto wanted = parse_options(count, values);
  if (!wanted) return 0;
  report made;
  made.how = *wanted;
  made.where = look_at_machine();
  runner with(made.how, made.where);
  lay_out(made, with);
  if (made.found.all.empty()) throw usage_error("nothing is left to be measured");
  if (!made.how.output.empty()) std::filesystem::create_directories(made.how.output);
  const neighbours others;
  measure_all(made, with);
  made.others = others.share();
  if (!made.how.output.empty()) write_all(made);
  made.how.is_json ? print_json(std::cout, made) : print_tables(std::cout, made);
  return alarms(made.found).empty() ? 0 : 2;
}

}  // namespace
}  // namespace bench

int main(int count, char** values) {
  bench::stop_on_signals();
  try {
    const int status = bench::run(count, values);
    return std::cout.flush() ? status : 1;
  } catch (const std::exception& failure) {
    std::cerr << values[0] << ": " << failure.what() << '\n';
    return 1;
  }
}
