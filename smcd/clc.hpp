// SPDX-License-Identifier: Apache-2.0
#pragma once
// CLC messages: what two ends say to each other on the TCP lane before they use
// DMBs. Values here, bytes there; who says what when is in handshake.hpp.
//
// We speak SMC-D version 2 release 1 and understand what other releases and
// SMC-R may send, so far as it is needed to decline it. Fields that we have no
// use for are zero when sent and ignored when received.

#include <devices/ids.hpp>
#include <smcd/eid.hpp>
#include <smcd/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

namespace smcd::clc {

inline constexpr std::size_t header_size = 8;
// The longest message that decodes, a Proposal with everything in it. A longer
// one is invalid.
inline constexpr std::size_t max_message_size = 652;

inline constexpr std::size_t max_ueids = 8;
inline constexpr std::size_t max_devices = 8;     // an emulated one takes two places
inline constexpr std::uint8_t max_size_code = 8;  // 16 KiB << 8 is 4 MiB
inline constexpr std::uint8_t highest_release = 1;
inline constexpr std::uint16_t feature_emulated_ism = 0x0001;  // knows gids of 128 bits
inline constexpr std::uint16_t known_features = feature_emulated_ism;

enum class message_type : std::uint8_t { proposal = 1, accept = 2, confirm = 3, decline = 4 };
enum class technology : std::uint8_t { smcr = 0, smcd = 1, neither = 2, both = 3 };

// A device and the fabric it is on. The gid of a fabric that is not emulated
// has 64 bits on the wire: its first 8 bytes, the others are zero.
struct device_name {
  dibs::gid gid;
  dibs::fabric_id fabric;

  friend bool operator==(const device_name&, const device_name&) = default;
};

// Client to server: all that the client could use.
struct proposal {
  std::uint8_t version = 2;
  bool has_v2 = true;       // v2 extension: release, features, UEIDs, SEID flag
  bool has_smcd_v2 = true;  // SMC-D v2 extension: SEID, devices
  std::uint8_t release = highest_release;
  std::uint16_t features = known_features;
  bool has_seid = false;
  std::uint8_t ueid_count = 0;
  std::uint8_t device_count = 0;
  std::uint64_t nonce = 0;  // ours alone: proves that both ends mean the same connection
  eid seid;
  std::array<eid, max_ueids> ueids;              // proposer's preference first
  std::array<device_name, max_devices> devices;  // the same

  friend bool operator==(const proposal&, const proposal&) = default;
};

// Server to client, and the client's answer. Every field tells of the sender.
struct accept_confirm {
  message_type type = message_type::accept;
  std::uint8_t version = 2;
  technology chosen = technology::smcd;  // smcr: no field below is decoded
  bool first_contact = false;            // this connection makes a new link group
  std::uint8_t size_code = 0;            // of the DMB: 16 KiB << size_code
  dibs::gid gid;
  dibs::dmb_token token;
  std::uint32_t link_id = 0;
  dibs::fabric_id fabric;  // from here on: version 2 only
  eid negotiated_eid;
  std::uint8_t release = 0;     // from here on: first contact only
  std::uint16_t features = 0;   // release 1 only
  std::array<char, 32> host{};  // blank padded

  friend bool operator==(const accept_confirm&, const accept_confirm&) = default;
};

// Either side, at any time: this connection stays on TCP.
struct decline {
  std::uint8_t version = 2;
  decline_code reason = decline_code::none;

  friend bool operator==(const decline&, const decline&) = default;
};

// Each writes one message to the front of `out` and returns its size; 0, and
// nothing written, if it does not fit or the value has no encoding: a count
// above its maximum, a size code above max_size_code, a release above 15, an
// SMC-R Accept, a version 1 Proposal, an SMC-D v2 extension without a v2
// extension. Devices that find no place are left out.
[[nodiscard]] std::size_t encode(const proposal&, std::span<std::byte> out) noexcept;
[[nodiscard]] std::size_t encode(const accept_confirm&, std::span<std::byte> out) noexcept;
[[nodiscard]] std::size_t encode(const decline&, std::span<std::byte> out) noexcept;

struct need_more {};  // a message may begin here, but it is not all there yet
struct invalid {};    // no message begins here, whatever may follow

struct decoded {
  std::variant<invalid, need_more, proposal, accept_confirm, decline> what;
  // A message: bytes that it takes. need_more: bytes, from the first one, that
  // are wanted before another try makes sense. Otherwise 0.
  std::size_t size = 0;

  // The message if it is a T, else null.
  template <class T>
  [[nodiscard]] const T* get_if() const noexcept {
    return std::get_if<T>(&what);
  }
  [[nodiscard]] bool is_message() const noexcept { return what.index() > 1; }
};

// The message at the front of `in`, which may hold more than that. Looks at
// nothing behind the header before the header is found plausible, so foreign
// bytes are known as such by the first one that differs.
[[nodiscard]] decoded decode(std::span<const std::byte> in) noexcept;

}  // namespace smcd::clc
