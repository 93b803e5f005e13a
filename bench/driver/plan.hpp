// SPDX-License-Identifier: Apache-2.0
#pragma once
// What is measured: questions, and the transports that answer them.

#include <driver/programs/program.hpp>
#include <worker/kind.hpp>

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

enum class placement { apart, together, free };  // one CPU each, one for both, unpinned

struct question {
  std::string name;
  std::string title;
  kind what = kind::ping;
  std::size_t size = 64;
  placement where = placement::apart;
  bool is_epoll = false;
  unsigned gap_us = 0;
  unsigned connections = 1;
  unsigned active = 1;
  bool is_detail = false;  // one more of a series: for the main transports only
  bool is_once = false;    // takes long and varies little
  bool is_flow = false;    // bytes per second are the answer, not how many messages
  std::optional<program_pair> programs{};

  [[nodiscard]] bool has_time() const noexcept { return what == kind::ping; }
  // Connections that end at once may stay on TCP, and nobody asks those of
  // other programs.
  [[nodiscard]] bool promises_smcd() const noexcept {
    return what == kind::ping || what == kind::stream || what == kind::many;
  }
  // Figures over the size of a message: what plots show.
  [[nodiscard]] bool is_of_sizes() const noexcept {
    return (what == kind::ping || what == kind::stream) && where == placement::apart && !is_epoll &&
           gap_us == 0;
  }
};

// In the order of the report.
[[nodiscard]] const std::vector<question>& questions();

struct transport {
  std::string_view name;
  std::string_view program;
  std::string_view family;
  bool is_preloaded = false;  // the client
  bool is_lone = false;       // and its server is not: a peer that cannot follow
  bool is_async = false;      // always waits in an event loop
  bool has_epoll = true;      // takes part where all wait in an event loop
  bool is_bare = false;       // no connections to set up, and never sleeps
  bool is_main = true;        // answers all that it can
  bool has_sockmap = false;   // the kernel leads its bytes past TCP
  bool must_be_smcd = false;  // tell loudly if it is not
};

// In the order of the report. A transport whose program was not built is left out.
inline constexpr std::array transports{
    transport{.name = "ring",
              .program = "dibsock-bench-ring",
              .family = "ring",
              .has_epoll = false,
              .is_bare = true},
    transport{.name = "native",
              .program = "dibsock-bench-native",
              .family = "native",
              .has_epoll = false,
              .must_be_smcd = true},
    transport{.name = "async",
              .program = "dibsock-bench-native",
              .family = "native",
              .is_async = true,
              .is_main = false,
              .must_be_smcd = true},
    transport{.name = "asio",
              .program = "dibsock-bench-native",
              .family = "asio",
              .is_async = true,
              .is_main = false},
    transport{.name = "shim",
              .program = "dibsock-bench-posix",
              .family = "tcp",
              .is_preloaded = true,
              .must_be_smcd = true},
    transport{.name = "lone",
              .program = "dibsock-bench-posix",
              .family = "tcp",
              .is_preloaded = true,
              .is_lone = true,
              .is_main = false},
    transport{.name = "tcp", .program = "dibsock-bench-posix", .family = "tcp"},
    transport{
        .name = "sockmap", .program = "dibsock-bench-posix", .family = "tcp", .has_sockmap = true},
    transport{.name = "unix", .program = "dibsock-bench-posix", .family = "unix"},
};

[[nodiscard]] bool answers(const transport&, const question&) noexcept;

}  // namespace bench
