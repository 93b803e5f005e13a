// SPDX-License-Identifier: Apache-2.0
#include <devices/inet.hpp>

#include <arpa/inet.h>

#include <doctest/doctest.h>

#include <string>

using dibs::inet_address;

namespace {

sockaddr_in in4(const char* text, std::uint16_t port) {
  sockaddr_in made{};
  made.sin_family = AF_INET;
  made.sin_port = htons(port);
  REQUIRE(::inet_pton(AF_INET, text, &made.sin_addr) == 1);
  return made;
}

sockaddr_in6 in6(const char* text, std::uint16_t port) {
  sockaddr_in6 made{};
  made.sin6_family = AF_INET6;
  made.sin6_port = htons(port);
  REQUIRE(::inet_pton(AF_INET6, text, &made.sin6_addr) == 1);
  return made;
}

template <class Sockaddr>
inet_address address_of(const Sockaddr& from) {
  inet_address made;
  REQUIRE(dibs::from_sockaddr(reinterpret_cast<const sockaddr*>(&from), sizeof from, made));
  return made;
}

}  // namespace

TEST_CASE("inet: IPv4 and the same address mapped into IPv6 are one key") {
  const inet_address plain = address_of(in4("192.0.2.1", 80));
  CHECK(plain == address_of(in6("::ffff:192.0.2.1", 80)));
  CHECK(plain == dibs::v4_address(0xC0000201, 80));
  CHECK(plain.is_v4());
  CHECK(plain.port == 80);
  CHECK(plain != address_of(in4("192.0.2.1", 81)));
  CHECK(plain != address_of(in4("192.0.2.2", 80)));
  CHECK(!address_of(in6("::192.0.2.1", 80)).is_v4());
}

TEST_CASE("inet: wildcards") {
  CHECK(address_of(in4("0.0.0.0", 1)).is_any());
  CHECK(address_of(in6("::", 1)).is_any());
  CHECK(address_of(in6("::ffff:0.0.0.0", 1)).is_any());
  CHECK(address_of(in4("0.0.0.0", 1)) != address_of(in6("::", 1)));
  CHECK(!address_of(in6("::1", 1)).is_any());
  CHECK(!address_of(in4("127.0.0.1", 1)).is_any());
}

TEST_CASE("inet: only fe80::/10 is link-local") {
  CHECK(address_of(in6("fe80::1", 1)).is_link_local());
  CHECK(address_of(in6("febf::1", 1)).is_link_local());
  CHECK(!address_of(in6("fec0::1", 1)).is_link_local());
  CHECK(!address_of(in6("::1", 1)).is_link_local());
  CHECK(!address_of(in4("169.254.0.1", 1)).is_link_local());
}

TEST_CASE("inet: what is no whole address is refused") {
  inet_address to;
  const sockaddr_in good4 = in4("127.0.0.1", 1);
  const sockaddr_in6 good6 = in6("::1", 1);
  const auto* generic4 = reinterpret_cast<const sockaddr*>(&good4);
  const auto* generic6 = reinterpret_cast<const sockaddr*>(&good6);
  CHECK(!dibs::from_sockaddr(nullptr, 100, to));
  CHECK(!dibs::from_sockaddr(generic4, 0, to));
  CHECK(!dibs::from_sockaddr(generic4, 1, to));
  CHECK(!dibs::from_sockaddr(generic4, sizeof good4 - 1, to));
  CHECK(!dibs::from_sockaddr(generic6, sizeof good6 - 1, to));
  sockaddr_in6 other = good6;
  for (const int family : {AF_UNSPEC, AF_UNIX, AF_NETLINK}) {
    other.sin6_family = static_cast<sa_family_t>(family);
    CHECK(!dibs::from_sockaddr(reinterpret_cast<const sockaddr*>(&other), sizeof other, to));
  }
}
