// SPDX-License-Identifier: Apache-2.0
#include <driver/report.hpp>

#include <boost/json.hpp>

#include <ostream>
#include <set>

namespace bench {
namespace {

namespace json = boost::json;

json::object figure(const series& one, const std::string& name) {
  const spread seen = one.of(name);
  json::array rounds;
  for (const double value : one.values(name)) rounds.push_back(value);
  return {{"median", seen.median}, {"min", seen.min}, {"max", seen.max}, {"rounds", rounds}};
}

json::object entry(const series& one, const results& in) {
  const question& what = *one.what;
  json::object made{
      {"question", what.name},           {"title", what.title},  {"kind", name_of(what.what)},
      {"transport", one.who->name},      {"size", what.size},    {"gap_us", what.gap_us},
      {"connections", what.connections}, {"active", what.active}};
  std::set<std::string> names;
  for (const figures& round : one.rounds) {
    for (const auto& [name, value] : round) names.insert(name);
  }
  for (const std::string& name : names) made[name] = figure(one, name);
  for (const char* to : {"tcp", "ring"}) {
    const series* other = in.find(*one.what, to);
    const double ratio = other != nullptr ? advantage(one, *other) : 0;
    if (ratio > 0) made["times_" + std::string(to)] = ratio;
  }
  if (one.who->must_be_smcd) made["rounds_on_tcp"] = one.rounds_on_tcp();
  if (!one.failure.empty()) made["failure"] = one.failure;
  return made;
}

}  // namespace

void print_json(std::ostream& to, const report& of) {
  json::array entries;
  for (const series& one : of.found.all) entries.push_back(entry(one, of.found));
  json::array warnings;
  for (const std::string& alarm : alarms(of.found)) warnings.emplace_back(alarm);
  json::array remarks;
  for (const std::string& remark : of.remarks) remarks.emplace_back(remark);
  to << json::serialize(json::object{
            {"machine",
             {{"cpu", of.where.cpu}, {"kernel", of.where.kernel}, {"used_by_others", of.others}}},
            {"repeats", of.how.repeats},
            {"time_ms", of.how.time_ms},
            {"warm_up_ms", of.how.warm_up_ms},
            {"rounds", of.how.rounds},
            {"programs_are_pinned", of.how.is_pinned},
            {"results", entries},
            {"remarks", remarks},
            {"alarms", warnings}})
     << '\n';
}

}  // namespace bench
