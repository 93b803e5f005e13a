// SPDX-License-Identifier: Apache-2.0
#pragma once
// What is measured: questions, and the transports that answer them.

#include <array>
#include <cstddef>
#include <string_view>

namespace bench {

enum class placement { apart, together, free };  // one CPU each, one for both, unpinned
enum class kind { ping, stream, connect };

struct question {
  std::string_view name;
  std::string_view title;
  kind what;
  std::size_t size;
  placement where;
  bool is_epoll = false;
};

inline constexpr std::array questions{
    question{"rtt", "round trip, 64 B, one core each", kind::ping, 64, placement::apart},
    question{"rtt-epoll", "round trip, 64 B, one core each, epoll", kind::ping, 64,
             placement::apart, true},
    question{"rtt-one-core", "round trip, 64 B, both on one core", kind::ping, 64,
             placement::together},
    question{"rtt-epoll-one-core", "round trip, 64 B, both on one core, epoll", kind::ping, 64,
             placement::together, true},
    question{"rtt-unpinned", "round trip, 64 B, as the scheduler likes", kind::ping, 64,
             placement::free},
    question{"stream-128k", "one way, 128 KiB messages, one core each", kind::stream, 131072,
             placement::apart},
    question{"stream-64", "one way, 64 B messages, one core each", kind::stream, 64,
             placement::apart},
    question{"stream-128k-one-core", "one way, 128 KiB messages, both on one core", kind::stream,
             131072, placement::together},
    question{"stream-64-one-core", "one way, 64 B messages, both on one core", kind::stream, 64,
             placement::together},
    question{"connect", "connect, 64 B there and back, close; one core each", kind::connect, 64,
             placement::apart},
    question{"connect-one-core", "connect, 64 B there and back, close; both on one core",
             kind::connect, 64, placement::together},
};

struct transport {
  std::string_view name;
  std::string_view program;
  std::string_view family;
  bool is_preloaded = false;  // the client
  bool is_lone = false;       // and its server is not: a peer that cannot follow
  bool is_async = false;      // always waits in an event loop
  bool has_epoll = true;      // takes part where all wait in an event loop
  bool has_connect = true;    // has connections to set up
  bool may_float = true;      // sleeps, so that the scheduler can place it
  bool must_be_smcd = false;  // tell loudly if it is not
};

// In the order of the report. A transport whose program was not built is left out.
inline constexpr std::array transports{
    transport{.name = "ring",
              .program = "dibsock-bench-ring",
              .family = "ring",
              .has_epoll = false,
              .has_connect = false,
              .may_float = false},
    transport{.name = "native",
              .program = "dibsock-bench-native",
              .family = "native",
              .has_epoll = false,
              .must_be_smcd = true},
    transport{.name = "async",
              .program = "dibsock-bench-native",
              .family = "native",
              .is_async = true,
              .must_be_smcd = true},
    transport{
        .name = "asio", .program = "dibsock-bench-native", .family = "asio", .is_async = true},
    transport{.name = "shim",
              .program = "dibsock-bench-posix",
              .family = "tcp",
              .is_preloaded = true,
              .must_be_smcd = true},
    transport{.name = "lone",
              .program = "dibsock-bench-posix",
              .family = "tcp",
              .is_preloaded = true,
              .is_lone = true},
    transport{.name = "tcp", .program = "dibsock-bench-posix", .family = "tcp"},
    transport{.name = "unix", .program = "dibsock-bench-posix", .family = "unix"},
};

[[nodiscard]] constexpr bool answers(const transport& who, const question& what) noexcept {
  return (who.has_epoll || !what.is_epoll) && (who.has_connect || what.what != kind::connect) &&
         (who.may_float || what.where != placement::free);
}

}  // namespace bench
