// SPDX-License-Identifier: Apache-2.0
#include <driver/options.hpp>

#include <driver/plan.hpp>

#include <boost/program_options.hpp>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <string_view>

namespace bench {
namespace {

namespace po = boost::program_options;

// `dibsock bench` calls us so.
std::string name_of_program(char** values) {
  return std::filesystem::path(values[0] != nullptr ? values[0] : "dibsock-bench").filename();
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t from = 0; from <= list.size();) {
    const std::size_t comma = std::min(list.find(',', from), list.size());
    if (comma > from) parts.push_back(list.substr(from, comma - from));
    from = comma + 1;
  }
  return parts;
}

template <class Known>
void require_known(const std::vector<std::string>& names, const Known& known, const char* what) {
  for (const std::string& name : names) {
    if (std::none_of(known.begin(), known.end(),
                     [&](const auto& one) { return is_named(one.name, name); })) {
      throw usage_error("there is no " + std::string(what) + " '" + name + "'");
    }
  }
}

void print_help(const std::string& name, const po::options_description& known) {
  std::cout
      << "Usage: " << name
      << " [OPTIONS]\n"
         "Measures SMC-D sockets beside TCP, UNIX sockets and a bare ring in memory, in turn.\n\n"
      << known << "\nQuestions:\n";
  for (const question& one : questions()) {
    std::cout << "  " << one.name
              << std::string(24 - std::min<std::size_t>(one.name.size(), 23), ' ') << one.title
              << '\n';
  }
  std::cout << "\nTransports:\n ";
  for (const transport& one : transports) std::cout << ' ' << one.name;
  std::cout << '\n';
}

}  // namespace

std::optional<options> parse_options(int count, char** values) {
  options made;
  std::string wanted_questions;
  std::string wanted_transports;
  std::string preload;
  std::string output;
  po::options_description known("Options", 90, 60);
  auto add = known.add_options();
  add("help,h", "print this text");
  add("quick", "300 rounds of most of it, once: does it work?");
  add("json", "print JSON instead of tables");
  add("output,o", po::value(&output)->value_name("DIR"),
      "write tables, JSON and plots into this directory as well");
  add("time,t", po::value(&made.time_ms)->value_name("MS"),
      "of one measurement (150); programs have a time of their own");
  add("warm-up", po::value(&made.warm_up_ms)->value_name("MS"), "before it (50)");
  add("repeats,r", po::value(&made.repeats)->value_name("N"), "measurements of each kind (5)");
  add("questions,q", po::value(&wanted_questions)->value_name("LIST"),
      "only these, or those that begin with these words");
  add("transports", po::value(&wanted_transports)->value_name("LIST"), "only these");
  add("pin", "programs of others on one core each, not as the scheduler likes");
  add("preload", po::value(&preload)->value_name("FILE"),
      "the preload library (DIBSOCK_PRELOAD, or ../lib/libdibsock-preload.so beside this program)");
  po::variables_map found;
  try {
    po::store(po::parse_command_line(count, values, known), found);
    po::notify(found);
  } catch (const po::error& failure) {
    throw usage_error(failure.what());
  }
  if (found.count("help") > 0) {
    print_help(name_of_program(values), known);
    return std::nullopt;
  }
  made.is_json = found.count("json") > 0;
  made.is_quick = found.count("quick") > 0;
  if (made.is_quick) {
    if (found.count("repeats") == 0) made.repeats = 1;
    if (found.count("warm-up") == 0) made.warm_up_ms = 5;
    if (found.count("time") == 0) made.time_ms = 1000;
    made.rounds = 300;
  }
  if (made.repeats == 0 || made.time_ms == 0) throw usage_error("nothing takes no time");
  made.questions = split(wanted_questions);
  made.transports = split(wanted_transports);
  require_known(made.questions, questions(), "question");
  require_known(made.transports, transports, "transport");
  if (const char* named = std::getenv("DIBSOCK_PRELOAD"); preload.empty() && named != nullptr) {
    preload = named;
  }
  made.preload = preload;
  made.output = output;
  made.is_pinned = found.count("pin") > 0;
  return made;
}

}  // namespace bench
