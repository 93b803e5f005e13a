// SPDX-License-Identifier: Apache-2.0
#pragma once
// What can go wrong between two ends of SMC-D. errc: the peer broke a rule.
// decline_code: a connection stays on TCP, an ordinary outcome with a reason.

#include <devices/error.hpp>

#include <cstdint>

namespace smcd {

using dibs::error_code;
template <class T>
using result = dibs::result<T>;

enum class errc {
  protocol_violation = 1,  // a message or a word that no correct peer writes
  unexpected_message,      // well formed, but not what this end waits for
  bad_cursor,              // outside the ring, or further than the ring is long
  bad_eid,                 // not the syntax of an enterprise id
};

[[nodiscard]] const boost::system::error_category& smcd_category() noexcept;
[[nodiscard]] dibs::error_code make_error_code(errc code) noexcept;

// Why TCP: the 32 bits that travel in a Decline and that smcss prints. The name
// that SMC documentation uses stands behind each. A peer may send any value.
enum class decline_code : std::uint32_t {
  none = 0,
  memory = 0x01010000,                 // MEM
  confirm_link_timeout = 0x02010000,   // TIMEOUT_CL
  add_link_timeout = 0x02020000,       // TIMEOUT_AL
  configuration = 0x03000000,          // CNFERR
  peer_no_smc = 0x03010000,            // PEERNOSMC
  ipsec = 0x03020000,                  // IPSEC
  no_device = 0x03030000,              // NOSMCDEV
  no_smcd_device = 0x03030001,         // NOSMCDDEV; also what an EID mismatch ends as
  no_smcr_device = 0x03030002,         // NOSMCRDEV
  no_ism_v2 = 0x03030003,              // NOISM2SUPP
  no_v2_extension = 0x03030004,        // NOV2EXT
  no_smcd_v2_extension = 0x03030005,   // NOV2DEXT
  no_seid = 0x03030006,                // NOSEID
  no_smcd_v2_device = 0x03030007,      // NOSMCD2DEV
  no_ueid = 0x03030008,                // NOUEID
  release_error = 0x03030009,          // RELEASEERR
  max_connections_error = 0x0303000a,  // MAXCONNERR
  max_links_error = 0x0303000b,        // MAXLINKERR
  mode_unsupported = 0x03040000,       // MODEUNSUPP
  rmb_eyecatcher = 0x03050000,         // RMBE_EC
  option_unsupported = 0x03060000,     // OPTUNSUPP
  different_prefix = 0x03070000,       // DIFFPREFIX
  vlan_unknown = 0x03080000,           // GETVLANERR
  ism_vlan_error = 0x03090000,         // ISMVLANERR
  no_active_link = 0x030a0000,         // NOACTLINK
  no_server_link = 0x030b0000,         // NOSRVLINK
  version_mismatch = 0x030c0000,       // VERSMISMAT
  no_dmb_left = 0x030d0000,            // MAX_DMB
  no_route = 0x030e0000,               // NOROUTE
  no_indirect_route = 0x030f0000,      // NOINDIRECT
  sync_error = 0x04000000,             // SYNCERR
  peer_declined = 0x05000000,          // PEERDECL; the peer's own code is kept besides
  internal_error = 0x09990000,         // INTERR
  rtoken_error = 0x09990001,           // ERR_RTOK
  ready_link_error = 0x09990002,       // ERR_RDYLNK
  register_buffer_error = 0x09990003,  // ERR_REGBUF
};

// The reason in words, lower case, no full stop. Static storage.
[[nodiscard]] const char* to_text(decline_code code) noexcept;

}  // namespace smcd

template <>
struct boost::system::is_error_code_enum<smcd::errc> : std::true_type {};
