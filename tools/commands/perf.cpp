// SPDX-License-Identifier: Apache-2.0
// `dibsock perf`: throughput and round trips of the native API, and of plain
// TCP and UNIX sockets under the same program.
#include <tools/options.hpp>
#include <tools/perf/client.hpp>
#include <tools/perf/server.hpp>
#include <tools/perf/stop.hpp>

#include <boost/json.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <string>

namespace tools {
namespace {

namespace json = boost::json;

constexpr std::uint16_t default_port = 5210;
constexpr std::uint32_t default_stream_size = 128 * 1024;
constexpr std::uint32_t default_ping_size = 64;
constexpr double default_seconds = 5;
constexpr double max_seconds = 86400;

// Calls work.operator()<Transport>() for the transport of that name.
template <class Work>
auto with_transport(const std::string& name, Work work) {
  if (name == "tcp") return work.template operator()<perf::tcp_transport>();
  if (name == "unix") return work.template operator()<perf::unix_transport>();
  if (name == "smcd") return work.template operator()<perf::smcd_transport>();
  throw usage_error("--transport '" + name + "' is neither smcd nor tcp nor unix");
}

std::uint16_t port_of(const options& known) {
  const auto text = known.text("port");
  return text ? static_cast<std::uint16_t>(size_in_range("port", *text, 0, 65535)) : default_port;
}

double seconds_of(const options& known) {
  const std::string text = known.text("time").value_or("");
  double seconds = default_seconds;
  if (!known.has("time")) return seconds;
  const char* end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, seconds);
  if (failure != std::errc{} || rest != end || !(seconds > 0 && seconds <= max_seconds)) {
    throw usage_error("--time '" + text + "' is no number of seconds from above 0 to 86400");
  }
  return seconds;
}

std::string fixed(const char* how, double value) {
  char text[64];
  std::snprintf(text, sizeof text, how, value);
  return text;
}

struct figures {
  double gbit;      // 10^9 bits
  double megabyte;  // 10^6 bytes
  double messages;
};

figures per_second(const perf::outcome& got) {
  const double seconds = got.seconds > 0 ? got.seconds : 1e-9;
  const auto bytes = static_cast<double>(got.bytes);
  return {bytes * 8 / seconds / 1e9, bytes / seconds / 1e6,
          static_cast<double>(got.messages) / seconds};
}

double microseconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e3; }

void print_text(const perf::plan& planned, std::string_view transport, const perf::outcome& got) {
  std::cout << perf::to_text(planned.kind) << " of " << planned.size << " byte messages over "
            << transport << ", " << fixed("%.2f", got.seconds) << " s\n";
  if (planned.kind == perf::test::stream) {
    const figures rates = per_second(got);
    std::cout << "  throughput  " << fixed("%.3f Gbit/s", rates.gbit)
              << fixed("  %.1f MB/s", rates.megabyte) << fixed("  %.0f messages/s", rates.messages)
              << '\n';
  } else {
    const perf::histogram& times = got.round_trips;
    std::cout << "  round trip  min" << fixed(" %.2f", microseconds(times.min()))
              << fixed("  p50 %.2f", microseconds(times.percentile(0.5)))
              << fixed("  p99 %.2f", microseconds(times.percentile(0.99)))
              << fixed("  p99.9 %.2f", microseconds(times.percentile(0.999)))
              << fixed("  max %.2f us", microseconds(times.max())) << "  (" << times.count()
              << " round trips)\n";
  }
  std::cout << "  mode        " << got.mode << '\n';
}

void print_json(const perf::plan& planned, std::string_view transport, const perf::outcome& got) {
  const figures rates = per_second(got);
  json::object made{{"test", perf::to_text(planned.kind)},
                    {"transport", transport},
                    {"size", planned.size},
                    {"milliseconds", std::llround(got.seconds * 1e3)},
                    {"bytes", got.bytes},
                    {"messages", got.messages},
                    {"mode", got.mode}};
  // Whole numbers: nobody needs parts of a bit, nor of a nanosecond.
  if (planned.kind == perf::test::stream) {
    made["bits_per_second"] = std::llround(rates.gbit * 1e9);
    made["messages_per_second"] = std::llround(rates.messages);
  } else {
    const perf::histogram& times = got.round_trips;
    made["round_trip_ns"] = json::object{{"min", times.min()},
                                         {"p50", times.percentile(0.5)},
                                         {"p99", times.percentile(0.99)},
                                         {"p99_9", times.percentile(0.999)},
                                         {"max", times.max()}};
  }
  std::cout << made << '\n';
}

int serve(const arguments& given) {
  options known("dibsock perf server [OPTIONS]");
  known.value("port,p", "port to listen on (default 5210; 0: any)");
  known.value("transport,T", "smcd (default), tcp or unix");
  known.value("bind,b", "address to listen on (default: all IPv4); for unix a path");
  known.flag("parallel,P", "serve clients at the same time, not one after the other");
  if (!known.parse(given)) return 0;
  if (!known.rest().empty()) throw usage_error("'" + known.rest()[0] + "' is not understood");
  const perf::place at{known.text("bind").value_or("0.0.0.0"), port_of(known)};
  perf::stop_on_signals();
  with_transport(known.text("transport").value_or("smcd"),
                 [&]<class Transport>() { perf::serve<Transport>(at, known.has("parallel")); });
  return 0;
}

int ask(const arguments& given) {
  options known("dibsock perf client HOST [OPTIONS]");
  known.value("port,p", "port of the server (default 5210)");
  known.value("transport,T", "smcd (default), tcp or unix; the server's must be the same");
  known.flag("stream", "messages one way, as fast as they go (default)");
  known.flag("ping", "one message there and back at a time");
  known.value("size,s", "bytes of a message (default 128k for a stream, 64 for a ping)");
  known.value("time,t", "seconds to measure (default 5)");
  known.flag("json", "the result as a JSON object");
  if (!known.parse(given)) return 0;
  if (known.rest().size() != 1) throw usage_error("exactly one HOST is needed");
  if (known.has("stream") && known.has("ping")) throw usage_error("either --stream or --ping");

  perf::plan planned;
  planned.server = {known.rest()[0], port_of(known)};
  planned.kind = known.has("ping") ? perf::test::ping : perf::test::stream;
  planned.size = known.has("ping") ? default_ping_size : default_stream_size;
  if (const auto text = known.text("size")) {
    planned.size = static_cast<std::uint32_t>(size_in_range("size", *text, 1, perf::max_message));
  }
  planned.time = std::chrono::milliseconds(
      std::max<std::int64_t>(1, static_cast<std::int64_t>(seconds_of(known) * 1000)));
  perf::stop_on_signals();
  with_transport(known.text("transport").value_or("smcd"), [&]<class Transport>() {
    const perf::outcome got = perf::measure<Transport>(planned);
    if (known.has("json")) {
      print_json(planned, Transport::name, got);
    } else {
      print_text(planned, Transport::name, got);
    }
  });
  return 0;
}

}  // namespace

int measure(const arguments& given) {
  const std::string_view role = given.empty() ? std::string_view() : given[0];
  const arguments rest(given.begin() + (given.empty() ? 0 : 1), given.end());
  if (!role.empty() && std::string_view("server").starts_with(role)) return serve(rest);
  if (!role.empty() && std::string_view("client").starts_with(role)) return ask(rest);
  if (role == "-h" || role == "--help") {
    std::cout << "Usage: dibsock perf server [OPTIONS]\n"
                 "       dibsock perf client HOST [OPTIONS]\n\n"
                 "Each has its own --help.\n";
    return 0;
  }
  throw usage_error("say 'server' or 'client'");
}

}  // namespace tools
