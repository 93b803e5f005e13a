// SPDX-License-Identifier: Apache-2.0
#include <smcd/clc.hpp>

#include <devices/chaos.hpp>
#include <smcd/clc_layout.hpp>

#include <algorithm>

namespace smcd::clc {
namespace {

using layout::nibbles;

constexpr std::uint8_t max_nibble = 15;

constexpr std::uint8_t header_flags(std::uint8_t version, technology v2, technology v1) noexcept {
  return nibbles(version, static_cast<unsigned>(v2) << 2 | static_cast<unsigned>(v1));
}

layout::octets8 half_of(const dibs::gid& gid, std::size_t first) noexcept {
  layout::octets8 half;
  std::copy_n(gid.bytes.begin() + static_cast<std::ptrdiff_t>(first), half.size(), half.begin());
  return half;
}

// Appends part after part; the room was checked before.
class writer {
 public:
  explicit writer(std::span<std::byte> out) noexcept : out_(out) {}

  template <wire_layout T>
  void put(const T& part) noexcept {
    store_at(out_, at_, part);
    at_ += sizeof(T);
  }

 private:
  std::span<std::byte> out_;
  std::size_t at_ = 0;
};

// The list of devices in a Proposal.
struct device_places {
  std::array<layout::gid_chid, max_devices> all{};
  std::uint8_t count = 0;

  void add(const device_name& device) noexcept {
    const std::size_t wanted = device.fabric.is_emulated() ? 2 : 1;
    if (wanted > all.size() - count) return;
    for (std::size_t i = 0; i < wanted; ++i) {
      all[count++] = {half_of(device.gid, 8 * i), be16(device.fabric.value)};
    }
  }
};

}  // namespace

std::size_t encode(const proposal& message, std::span<std::byte> out) noexcept {
  if (message.version != 2 || message.release > max_nibble || message.ueid_count > max_ueids ||
      message.device_count > max_devices || (message.has_smcd_v2 && !message.has_v2)) {
    return 0;
  }
  device_places places;
  for (std::size_t i = 0; message.has_smcd_v2 && i < message.device_count; ++i) {
    places.add(message.devices[i]);
  }

  std::size_t size =
      sizeof(layout::proposal_base) + sizeof(layout::proposal_smcd) + layout::trailer_size;
  technology offered = technology::neither;
  if (message.has_v2) {
    size += sizeof(layout::proposal_v2) + message.ueid_count * eid_size;
    offered = technology::smcr;
  }
  if (message.has_smcd_v2) {
    size += sizeof(layout::proposal_smcd_v2) + places.count * sizeof(layout::gid_chid);
    offered = technology::smcd;
  }
  if (out.size() < size) return 0;

  layout::proposal_base base{};
  base.header = {layout::eyecatcher_smcr, static_cast<std::uint8_t>(message_type::proposal),
                 be16(static_cast<std::uint16_t>(size)),
                 header_flags(message.version, offered, technology::neither)};
  layout::proposal_smcd smcd{};
  smcd.v2_offset.store(message.has_v2 ? sizeof smcd - offsetof(layout::proposal_smcd, vendor) : 0);
  smcd.vendor.store(message.nonce);
  writer to(out);
  to.put(base);
  to.put(smcd);
  if (message.has_v2) {
    layout::proposal_v2 part{};
    part.ueid_count = message.ueid_count;
    part.device_count = places.count;
    part.flags = nibbles(message.release, message.has_seid ? layout::flag_seid : 0);
    const std::size_t smcd_v2_offset =
        sizeof part - offsetof(layout::proposal_v2, roce_gid) + message.ueid_count * eid_size;
    if (message.has_smcd_v2) part.smcd_v2_offset.store(static_cast<std::uint16_t>(smcd_v2_offset));
    part.features.store(message.features);
    to.put(part);
    for (std::size_t i = 0; i < message.ueid_count; ++i) to.put(message.ueids[i]);
  }
  if (message.has_smcd_v2) {
    to.put(layout::proposal_smcd_v2{message.has_seid ? message.seid : eid{}, {}});
    for (std::size_t i = 0; i < places.count; ++i) to.put(places.all[i]);
  }
  to.put(layout::eyecatcher_smcr);
  return size;
}

std::size_t encode(const accept_confirm& message, std::span<std::byte> out) noexcept {
  const bool is_v2 = message.version == 2;
  if ((!is_v2 && message.version != 1) || message.chosen != technology::smcd ||
      (message.type != message_type::accept && message.type != message_type::confirm) ||
      (message.size_code > max_size_code && !dibs::chaos::is_on()) ||
      message.release > max_nibble) {
    return 0;
  }
  const bool has_contact = is_v2 && message.first_contact;
  const bool has_v21 = has_contact && message.release >= 1;
  const std::size_t size = !is_v2        ? layout::accept_v1_size
                           : has_v21     ? layout::accept_first_v21_size
                           : has_contact ? layout::accept_first_size
                                         : layout::accept_v2_size;
  if (out.size() < size) return 0;

  layout::accept_base base{};
  base.header = {layout::eyecatcher_smcd, static_cast<std::uint8_t>(message.type),
                 be16(static_cast<std::uint16_t>(size)),
                 header_flags(message.version, technology::smcr, technology::smcd)};
  if (message.first_contact) base.header.flags |= layout::flag_in_header;
  base.gid_upper = half_of(message.gid, 0);
  base.token.store(message.token.value);
  base.size_code = nibbles(message.size_code, 0);
  base.link_id.store(message.link_id);
  writer to(out);
  to.put(base);
  if (is_v2) {
    const bool is_emulated = message.fabric.is_emulated();
    to.put(layout::accept_v2{be16(message.fabric.value), message.negotiated_eid,
                             is_emulated ? half_of(message.gid, 8) : layout::octets8{}});
  } else {
    to.put(std::array<std::uint8_t, 12>{});
  }
  if (has_contact) {
    to.put(layout::first_contact{0, nibbles(layout::os_linux, message.release), {}, message.host});
  }
  if (has_v21) to.put(layout::first_contact_v21{0, 0, be16(message.features), {}, {}});
  to.put(layout::eyecatcher_smcd);
  return size;
}

std::size_t encode(const decline& message, std::span<std::byte> out) noexcept {
  const bool is_v2 = message.version == 2;
  if (!is_v2 && message.version != 1) return 0;
  const std::size_t size = is_v2 ? layout::decline_v2_size : layout::decline_v1_size;
  if (out.size() < size) return 0;

  layout::decline_base base{};
  base.header = {layout::eyecatcher_smcr, static_cast<std::uint8_t>(message_type::decline),
                 be16(static_cast<std::uint16_t>(size)), nibbles(message.version, 0)};
  // Out of sync is told twice, so that the peer drops its link group.
  if (message.reason == decline_code::sync_error) base.header.flags |= layout::flag_in_header;
  base.reason.store(static_cast<std::uint32_t>(message.reason));
  writer to(out);
  if (is_v2) base.os = nibbles(layout::os_linux, 0);
  to.put(base);
  if (is_v2) to.put(std::array<std::uint8_t, 16>{});
  to.put(layout::eyecatcher_smcr);
  return size;
}

}  // namespace smcd::clc
