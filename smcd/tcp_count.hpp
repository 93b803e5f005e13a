// SPDX-License-Identifier: Apache-2.0
#pragma once
// How many bytes a TCP socket ever moved, from what the kernel tells of it.

#include <smcd/tcp_lane.hpp>

#include <linux/tcp.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace smcd {

// The kernel counts a FIN as one more byte received.
[[nodiscard]] constexpr bool has_fin(std::uint8_t state) noexcept {
  // As in the column `st` of /proc/net/tcp.
  constexpr std::uint8_t time_wait = 6;
  constexpr std::uint8_t close_wait = 8;
  constexpr std::uint8_t last_ack = 9;
  constexpr std::uint8_t closing = 11;
  return state == time_wait || state == close_wait || state == last_ack || state == closing;
}

// `info(tcp_info&)`: TCP_INFO of the socket, false if there is none. `unread()`:
// SIOCINQ. Nothing if nobody can tell.
template <class AskInfo, class AskUnread>
[[nodiscard]] std::optional<tcp_count> count_tcp(AskInfo info, AskUnread unread) noexcept {
  constexpr std::uint8_t closed = 7;  // there was a FIN, or there was none
  // Bytes may arrive between the questions: ask until none did.
  constexpr int tries = 16;
  for (int i = 0; i < tries; ++i) {
    tcp_info before{};
    tcp_info after{};
    if (!info(before)) return std::nullopt;
    const std::size_t waiting = unread();
    if (!info(after) || after.tcpi_state == closed) return std::nullopt;
    if (before.tcpi_bytes_received != after.tcpi_bytes_received) continue;
    return tcp_count{after.tcpi_bytes_sent - after.tcpi_bytes_retrans + after.tcpi_notsent_bytes,
                     after.tcpi_bytes_received - waiting - (has_fin(after.tcpi_state) ? 1 : 0)};
  }
  return std::nullopt;
}

}  // namespace smcd
