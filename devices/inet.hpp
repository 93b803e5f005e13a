// SPDX-License-Identifier: Apache-2.0
#pragma once
// Addresses as keys of the rendezvous: one form for IPv4, IPv6 and IPv4 mapped
// into IPv6, so that both ends of a connection write the same key.

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>

namespace dibs {

struct inet_address {
  std::array<std::uint8_t, 16> bytes{};  // network order; IPv4 as ::ffff:a.b.c.d
  std::uint16_t port = 0;                // host order

  friend constexpr auto operator<=>(const inet_address&, const inet_address&) = default;

  [[nodiscard]] constexpr bool is_v4() const noexcept {
    for (std::size_t i = 0; i < 10; ++i) {
      if (bytes[i] != 0) return false;
    }
    return bytes[10] == 0xFF && bytes[11] == 0xFF;
  }
  // 0.0.0.0 or ::
  [[nodiscard]] constexpr bool is_any() const noexcept {
    for (std::size_t i = is_v4() ? 12 : 0; i < 16; ++i) {
      if (bytes[i] != 0) return false;
    }
    return true;
  }
  // Whom connect(2) reaches there: for 0.0.0.0 and :: this machine's loopback.
  [[nodiscard]] constexpr inet_address reached() const noexcept {
    inet_address at = *this;
    if (!is_any()) return at;
    at.bytes[15] = 1;
    if (is_v4()) at.bytes[12] = 127;
    return at;
  }
  // fe80::/10: unique only together with an interface, so never a key.
  [[nodiscard]] constexpr bool is_link_local() const noexcept {
    return bytes[0] == 0xFE && (bytes[1] & 0xC0) == 0x80;
  }
};

[[nodiscard]] constexpr inet_address v4_address(std::uint32_t host_order,
                                                std::uint16_t port) noexcept {
  inet_address address;
  address.bytes[10] = address.bytes[11] = 0xFF;
  for (unsigned i = 0; i < 4; ++i) {
    address.bytes[12 + i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
  }
  address.port = port;
  return address;
}

// False for anything but a complete IPv4 or IPv6 address.
[[nodiscard]] inline bool from_sockaddr(const sockaddr* from, socklen_t size,
                                        inet_address& to) noexcept {
  if (from == nullptr || size < sizeof(sa_family_t)) return false;
  if (from->sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    sockaddr_in in;
    std::memcpy(&in, from, sizeof in);
    to = v4_address(ntohl(in.sin_addr.s_addr), ntohs(in.sin_port));
    return true;
  }
  if (from->sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    sockaddr_in6 in;
    std::memcpy(&in, from, sizeof in);
    std::memcpy(to.bytes.data(), &in.sin6_addr, 16);
    to.port = ntohs(in.sin6_port);
    return true;
  }
  return false;
}

}  // namespace dibs
