// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the driver asks of a worker, as `name=value` arguments, and what the
// worker answers on its standard output, as lines "name value".
//
// A server first says "ready ADDRESS"; that address is given to the client.

#include <worker/kind.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>

namespace bench {

struct task {
  bool is_server = false;
  std::string family;   // tcp, unix; native or asio; ring has but one
  std::string address;  // server: where to listen; client: where it does
  kind what = kind::ping;
  bool is_async = false;     // wait with epoll, or the event loop of a library
  bool shares_cpu = false;   // both workers run on one CPU
  bool leaves_tcp = false;   // the client waits until its connection did
  std::size_t size = 64;     // of a message, bytes
  std::uint64_t gap_us = 0;  // that the client sleeps between two round trips
  std::uint64_t connections = 1;
  std::uint64_t active = 1;   // how many of them have something to say
  std::uint64_t hold_ms = 0;  // how long idle connections are left alone
  std::uint64_t warm_up_ms = 100;
  std::uint64_t time_ms = 300;  // how long to measure, or
  std::uint64_t rounds = 0;     // how many rounds, if that is sooner; 0: no limit
};

[[nodiscard]] inline kind parse_kind(const std::string& name) {
  const auto at = std::find(kind_names.begin(), kind_names.end(), name);
  if (at == kind_names.end()) throw std::invalid_argument("unknown kind: " + name);
  return static_cast<kind>(at - kind_names.begin());
}

[[nodiscard]] inline task parse(int count, char** values) {
  task made;
  const std::map<std::string_view, std::function<void(const std::string&)>> known{
      {"role", [&](const std::string& value) { made.is_server = value == "server"; }},
      {"family", [&](const std::string& value) { made.family = value; }},
      {"address", [&](const std::string& value) { made.address = value; }},
      {"what", [&](const std::string& value) { made.what = parse_kind(value); }},
      {"async", [&](const std::string& value) { made.is_async = value == "1"; }},
      {"shares_cpu", [&](const std::string& value) { made.shares_cpu = value == "1"; }},
      {"leaves_tcp", [&](const std::string& value) { made.leaves_tcp = value == "1"; }},
      {"size", [&](const std::string& value) { made.size = std::stoull(value); }},
      {"gap_us", [&](const std::string& value) { made.gap_us = std::stoull(value); }},
      {"connections", [&](const std::string& value) { made.connections = std::stoull(value); }},
      {"active", [&](const std::string& value) { made.active = std::stoull(value); }},
      {"hold_ms", [&](const std::string& value) { made.hold_ms = std::stoull(value); }},
      {"warm_up_ms", [&](const std::string& value) { made.warm_up_ms = std::stoull(value); }},
      {"time_ms", [&](const std::string& value) { made.time_ms = std::stoull(value); }},
      {"rounds", [&](const std::string& value) { made.rounds = std::stoull(value); }},
  };
  for (int i = 1; i < count; ++i) {
    const std::string_view argument(values[i]);
    const std::size_t equals = argument.find('=');
    const auto at = known.find(argument.substr(0, equals));
    if (at == known.end()) {
      throw std::invalid_argument("unknown argument: " + std::string(argument));
    }
    at->second(std::string(equals == argument.npos ? "" : argument.substr(equals + 1)));
  }
  if (made.size == 0 || made.size > (std::size_t{1} << 30)) {
    throw std::invalid_argument("size is out of range");
  }
  if (made.active == 0 || made.active > made.connections) {
    throw std::invalid_argument("active is out of range");
  }
  return made;
}

inline void say(const char* name, const std::string& value) {
  std::printf("%s %s\n", name, value.c_str());
  std::fflush(stdout);
}
inline void say(const char* name, double value) { say(name, std::to_string(value)); }

}  // namespace bench
