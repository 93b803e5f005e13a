// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the driver asks of a worker, as `name=value` arguments, and what the
// worker answers on its standard output, as lines "name value".
//
// A server first says "ready ADDRESS"; that address is given to the client.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

namespace bench {

enum class question { ping, stream, connect };

struct task {
  bool is_server = false;
  std::string family;   // tcp, unix; native or asio; ring has but one
  std::string address;  // server: where to listen; client: where it does
  question what = question::ping;
  bool is_async = false;    // wait with epoll, or the event loop of a library
  bool shares_cpu = false;  // both workers run on one CPU
  bool leaves_tcp = false;  // the client waits until its connection did
  std::size_t size = 64;    // of a message, bytes
  std::uint64_t warm_up_ms = 100;
  std::uint64_t time_ms = 300;  // how long to measure, or
  std::uint64_t rounds = 0;     // how many rounds, if that is sooner; 0: no limit
};

[[nodiscard]] inline task parse(int count, char** values) {
  task made;
  for (int i = 1; i < count; ++i) {
    const std::string_view argument(values[i]);
    const std::size_t equals = argument.find('=');
    const std::string_view name = argument.substr(0, equals);
    const std::string value(equals == std::string_view::npos ? "" : argument.substr(equals + 1));
    if (name == "role") {
      made.is_server = value == "server";
    } else if (name == "family") {
      made.family = value;
    } else if (name == "address") {
      made.address = value;
    } else if (name == "what") {
      made.what = value == "ping"     ? question::ping
                  : value == "stream" ? question::stream
                                      : question::connect;
    } else if (name == "async") {
      made.is_async = value == "1";
    } else if (name == "shares_cpu") {
      made.shares_cpu = value == "1";
    } else if (name == "leaves_tcp") {
      made.leaves_tcp = value == "1";
    } else if (name == "size") {
      made.size = std::stoull(value);
    } else if (name == "warm_up_ms") {
      made.warm_up_ms = std::stoull(value);
    } else if (name == "time_ms") {
      made.time_ms = std::stoull(value);
    } else if (name == "rounds") {
      made.rounds = std::stoull(value);
    } else {
      throw std::invalid_argument("unknown argument: " + std::string(argument));
    }
  }
  if (made.size == 0 || made.size > (std::size_t{1} << 30)) {
    throw std::invalid_argument("size is out of range");
  }
  return made;
}

inline void say(const char* name, const std::string& value) {
  std::printf("%s %s\n", name, value.c_str());
  std::fflush(stdout);
}
inline void say(const char* name, double value) { say(name, std::to_string(value)); }

}  // namespace bench
