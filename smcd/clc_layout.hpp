// SPDX-License-Identifier: Apache-2.0
#pragma once
// The parts of CLC messages as bytes (SMC-D version 2.1, version 1 where it
// differs). Offsets are those of the message unless a part floats. What stands
// between a message's last part and its trailer does not exist: no padding.

#include <smcd/eid.hpp>
#include <smcd/wire.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace smcd::clc::layout {

using octets4 = std::array<std::uint8_t, 4>;
using octets8 = std::array<std::uint8_t, 8>;

[[nodiscard]] constexpr std::uint8_t nibbles(unsigned high, unsigned low) noexcept {
  return static_cast<std::uint8_t>(high << 4 | low);
}
[[nodiscard]] constexpr std::uint8_t high_nibble(std::uint8_t byte) noexcept {
  return static_cast<std::uint8_t>(byte >> 4);
}
[[nodiscard]] constexpr std::uint8_t low_nibble(std::uint8_t byte) noexcept {
  return static_cast<std::uint8_t>(byte & 0x0F);
}

// "SMCR" and "SMCD" in EBCDIC. Each message ends with one, its trailer, too.
inline constexpr octets4 eyecatcher_smcr{0xE2, 0xD4, 0xC3, 0xD9};
inline constexpr octets4 eyecatcher_smcd{0xE2, 0xD4, 0xC3, 0xC4};

struct header {
  octets4 eyecatcher;
  std::uint8_t type;
  be16 length;         // of the whole message
  std::uint8_t flags;  // version 7..4, type-v2 3..2, type-v1 1..0
};
static_assert(sizeof(header) == 8 && offsetof(header, length) == 5 && offsetof(header, flags) == 7);

// Accept, Confirm: first contact. Decline: out of sync.
inline constexpr std::uint8_t flag_in_header = 0x08;
// Flags of proposal_v2.
inline constexpr std::uint8_t flag_seid = 0x01;

struct proposal_base {
  layout::header header;
  octets8 peer_id;  // this and the next two: SMC-R
  std::array<std::uint8_t, 16> roce_gid;
  std::array<std::uint8_t, 6> roce_mac;
  be16 prefix_offset;  // of proposal_prefixes, from the end of this part
};
static_assert(sizeof(proposal_base) == 40 && offsetof(proposal_base, prefix_offset) == 38);

struct proposal_smcd {
  octets8 ism_gid;
  be16 ism_chid;
  be16 v2_offset;  // of proposal_v2, from `vendor`
  be64 vendor;     // OUI and options: our nonce
  std::array<std::uint8_t, 20> reserved;
};
static_assert(sizeof(proposal_smcd) == 40 && offsetof(proposal_smcd, v2_offset) == 10 &&
              offsetof(proposal_smcd, vendor) == 12);

struct proposal_prefixes {
  be32 ipv4_subnet;
  std::uint8_t ipv4_prefix_length;
  be16 reserved;
  std::uint8_t ipv6_count;  // of ipv6_prefix that follow
};
static_assert(sizeof(proposal_prefixes) == 8 && offsetof(proposal_prefixes, ipv6_count) == 7);

inline constexpr std::size_t ipv6_prefix_size = 17;
inline constexpr std::size_t max_ipv6_prefixes = 8;

struct proposal_v2 {
  std::uint8_t ueid_count;  // of eid that follow
  std::uint8_t device_count;
  std::uint8_t reserved1;
  std::uint8_t flags;  // release 7..4, flag_seid
  be16 reserved2;
  be16 smcd_v2_offset;  // of proposal_smcd_v2, from `roce_gid`
  std::array<std::uint8_t, 16> roce_gid;
  std::uint8_t max_connections;
  std::uint8_t max_links;
  be16 features;
  std::array<std::uint8_t, 12> reserved3;
};
static_assert(sizeof(proposal_v2) == 40 && offsetof(proposal_v2, smcd_v2_offset) == 6 &&
              offsetof(proposal_v2, roce_gid) == 8 && offsetof(proposal_v2, features) == 26);

struct proposal_smcd_v2 {
  eid seid;
  std::array<std::uint8_t, 16> reserved;
};
static_assert(sizeof(proposal_smcd_v2) == 48);

// A device; an emulated one takes two with equal CHID, upper half first.
struct gid_chid {
  octets8 gid;
  be16 chid;
};
static_assert(sizeof(gid_chid) == 10);

// Both versions of Accept and Confirm. Version 1 goes on with 12 reserved bytes.
struct accept_base {
  layout::header header;
  octets8 gid_upper;
  be64 token;
  std::uint8_t dmbe_index;
  std::uint8_t size_code;  // 7..4
  be16 reserved;
  be32 link_id;
};
static_assert(sizeof(accept_base) == 32 && offsetof(accept_base, token) == 16 &&
              offsetof(accept_base, size_code) == 25 && offsetof(accept_base, link_id) == 28);

struct accept_v2 {
  be16 chid;
  eid negotiated_eid;
  octets8 gid_lower;  // zero unless the CHID is emulated
};
static_assert(sizeof(accept_v2) == 42);

struct first_contact {
  std::uint8_t flags;
  std::uint8_t os_release;  // operating system 7..4, release 3..0
  be16 reserved;
  std::array<char, 32> host;
};
static_assert(sizeof(first_contact) == 36);

// Behind first_contact from release 1 on.
struct first_contact_v21 {
  std::uint8_t max_connections;
  std::uint8_t max_links;
  be16 features;
  be32 vendor;
  octets8 reserved;
};
static_assert(sizeof(first_contact_v21) == 16 && offsetof(first_contact_v21, features) == 2);

inline constexpr std::uint8_t os_linux = 2;

struct decline_base {
  layout::header header;
  octets8 peer_id;
  be32 reason;
  std::uint8_t os;  // 7..4; version 2
  std::array<std::uint8_t, 3> reserved;
};
static_assert(sizeof(decline_base) == 24 && offsetof(decline_base, reason) == 16);

inline constexpr std::size_t trailer_size = sizeof(octets4);

// Whole messages.
inline constexpr std::size_t accept_v1_size = 48;
inline constexpr std::size_t accept_v2_size =
    sizeof(accept_base) + sizeof(accept_v2) + trailer_size;
inline constexpr std::size_t accept_first_size = accept_v2_size + sizeof(first_contact);
inline constexpr std::size_t accept_first_v21_size = accept_first_size + sizeof(first_contact_v21);
inline constexpr std::size_t accept_smcr_v1_size = 68;
inline constexpr std::size_t accept_smcr_v2_size = 108;  // at least
inline constexpr std::size_t decline_v1_size = sizeof(decline_base) + trailer_size;
inline constexpr std::size_t decline_v2_size = sizeof(decline_base) + 16 + trailer_size;
static_assert(accept_v2_size == 78 && accept_first_size == 114 && accept_first_v21_size == 130);
static_assert(decline_v1_size == 28 && decline_v2_size == 44);

}  // namespace smcd::clc::layout
