// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a user can set, parsed once from the environment. Wrong values never
// stop a program: the default is used, and `complaint` says what was wrong.

#include <devices/chaos.hpp>
#include <smcd/eid.hpp>

#include <array>
#include <cstdint>
#include <string_view>

namespace smcd {

struct config {
  std::array<char, 208> fabric{};          // DIBSOCK_FABRIC; empty: the user's own directory
  std::array<eid, 4> ueids{default_ueid};  // DIBSOCK_UEID, comma separated, preference order
  std::uint8_t ueid_count = 1;
  bool is_enabled = true;                  // DIBSOCK=off: everything stays on TCP
  bool has_io_uring = true;                // DIBSOCK_IO_URING=off: programs find none
  bool logs = false;                       // DIBSOCK_LOG=1: fallbacks are told on stderr
  std::uint32_t buffer_size = 256 * 1024;  // DIBSOCK_BUFFER (suffix k, m): DMB of a connection
  std::uint32_t spin_us = 100;             // DIBSOCK_SPIN_US: upper bound of a spin
  // When a connection leaves TCP: after this many calls that moved bytes, or
  // this many bytes, whatever comes first.
  std::uint32_t switch_calls = 8;       // DIBSOCK_SWITCH_CALLS
  std::uint32_t switch_bytes = 262144;  // DIBSOCK_SWITCH_BYTES
  // A ring that stayed full for so long is given up for the TCP lane, which
  // takes as many bytes unread as TCP always did. Microseconds. Long enough
  // for a reader that only waits for a CPU.
  std::uint32_t patience_us = 50000;  // DIBSOCK_PATIENCE_US
  // The same for a process that talks to itself, perhaps in one thread.
  static constexpr std::uint32_t own_patience_us = 2000;
  // How long CLC bytes are waited for that were announced just now. Rare: the
  // peer was stopped between the announcement and the send, or its kernel holds
  // them back, for 200 ms if the program corked the socket.
  std::uint32_t clc_patience_us = 500'000;

  std::array<char, 160> complaint{};  // empty: all was well
};

// Looks up a variable; null if it is not set.
using environment = const char* (*)(const char* name);

[[nodiscard]] config read_config(environment) noexcept;

// 16 KiB << code, the smallest that holds `size` (at most 4 MiB).
[[nodiscard]] constexpr std::uint8_t size_code_for(std::uint64_t size) noexcept {
  std::uint8_t code = 0;
  while (code < 8 && (std::uint64_t{16384} << code) < size) ++code;
  return code;
}
[[nodiscard]] constexpr std::uint32_t size_of_code(std::uint8_t code) noexcept {
  return code <= 8 ? std::uint32_t{16384} << code : dibs::chaos::min_dmb_size << (15 - code);
}

}  // namespace smcd
