// SPDX-License-Identifier: Apache-2.0
#include <driver/plan.hpp>
#include <driver/programs/all.hpp>

#include <algorithm>
#include <initializer_list>
#include <sstream>

namespace bench {
namespace {

// "test","rps","avg_latency_ms","min_...","p50_...","p95_...","p99_...","max_..."
figures read_redis(const std::string& output) {
  std::string line = output.substr(std::min(output.find("\"GET\""), output.size()));
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '"' || c == ','; }, ' ');
  std::istringstream from(line);
  std::string name;
  double rate = 0;
  double average = 0;
  double least = 0;
  double p50 = 0;
  double p95 = 0;
  double p99 = 0;
  if (!(from >> name >> rate >> average >> least >> p50 >> p95 >> p99)) return {};
  return {{"per_second", rate}, {"p50_ns", p50 * 1e6}, {"p99_ns", p99 * 1e6}};
}

program_pair redis(unsigned clients, unsigned depth) {
  program_pair made;
  made.name = "redis";
  made.needs = {"redis-server", "redis-benchmark"};
  made.has_unix = true;
  made.server = [](const meeting& at) {
    return arguments{"redis-server", "--bind", "127.0.0.1",    "--port", at.port, "--save", "",
                     "--dir",        ".",      "--unixsocket", at.path};
  };
  // It counts requests, not seconds: a second of them over TCP, or two.
  const unsigned rounds = (clients == 1 ? 40'000 : 100'000) * (depth == 1 ? 1 : 5);
  const arguments options{"redis-benchmark",
                          "-c",
                          std::to_string(clients),
                          "-P",
                          std::to_string(depth),
                          "-n",
                          std::to_string(rounds),
                          "-t",
                          "get",
                          "--csv"};
  made.client = [options](const meeting& at) {
    arguments all = options;
    all.insert(all.end(), at.is_unix ? std::initializer_list<std::string>{"-s", at.path}
                                     : std::initializer_list<std::string>{"-p", at.port});
    return all;
  };
  made.read = [rounds](const std::string& output) {
    figures found = read_redis(output);
    found["operations"] = rounds;
    return found;
  };
  return made;
}

}  // namespace

void add_redis(std::vector<question>& to) {
  for (const unsigned clients : {1U, 50U, 1000U}) {
    for (const unsigned depth : {1U, 16U}) {
      const std::string count = std::to_string(clients);
      const std::string requests = std::to_string(depth);
      const bool is_first = clients == 1 && depth == 1;
      to.push_back({.name = "redis-c" + count + (depth > 1 ? "-p" + requests : ""),
                    .title = "redis-benchmark, GET of 3 B, " + count + " connections" +
                             (depth > 1 ? ", " + requests + " requests at a time" : ""),
                    .what = kind::program,
                    .where = placement::free,
                    .connections = clients,
                    .is_detail = !is_first,
                    .programs = redis(clients, depth)});
    }
  }
}

}  // namespace bench
