// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the two ends of `dibsock perf` say to each other. The client sends one
// request, the server one answer; then the test runs until the client shuts
// its sending direction down, and after a stream the server says how many
// bytes it got. Numbers are big-endian.

#include <smcd/wire.hpp>

#include <array>
#include <cstdint>
#include <string_view>

namespace tools::perf {

inline constexpr std::uint16_t version = 1;
inline constexpr std::array<char, 8> magic{'D', 'I', 'B', 'S', 'P', 'E', 'R', 'F'};
inline constexpr std::uint32_t max_message = 64 * 1024 * 1024;

enum class test : std::uint16_t {
  stream = 1,  // messages one way, as fast as they go
  ping = 2,    // a message there and back, one at a time
};

struct request {
  std::array<char, 8> magic = perf::magic;
  smcd::be16 version{perf::version};
  smcd::be16 kind;          // test
  smcd::be32 size;          // bytes of a message
  smcd::be32 milliseconds;  // that the test will take
  smcd::be32 reserved;
};
static_assert(sizeof(request) == 24);

enum class verdict : std::uint16_t { accepted = 0, wrong_version = 1, wrong_parameters = 2 };

struct answer {
  std::array<char, 8> magic = perf::magic;
  smcd::be16 version{perf::version};
  smcd::be16 what;  // verdict
  smcd::be32 reserved;
};
static_assert(sizeof(answer) == 16);

struct report {
  smcd::be64 bytes;
};
static_assert(sizeof(report) == 8);

[[nodiscard]] constexpr bool is_ours(const std::array<char, 8>& from) noexcept {
  return from == magic;
}

[[nodiscard]] constexpr verdict judge(const request& asked) noexcept {
  if (asked.version.load() != version) return verdict::wrong_version;
  const std::uint16_t kind = asked.kind.load();
  const std::uint32_t size = asked.size.load();
  const bool is_known = kind == static_cast<std::uint16_t>(test::stream) ||
                        kind == static_cast<std::uint16_t>(test::ping);
  return is_known && size >= 1 && size <= max_message ? verdict::accepted
                                                      : verdict::wrong_parameters;
}

[[nodiscard]] constexpr std::string_view to_text(test kind) noexcept {
  return kind == test::stream ? "stream" : "ping";
}

}  // namespace tools::perf
