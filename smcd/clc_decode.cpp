// SPDX-License-Identifier: Apache-2.0
#include <smcd/clc.hpp>

#include <devices/chaos.hpp>
#include <smcd/clc_layout.hpp>

#include <algorithm>
#include <optional>

namespace smcd::clc {
namespace {

using layout::high_nibble;
using layout::low_nibble;

constexpr technology type_v1(const layout::header& header) noexcept {
  return static_cast<technology>(header.flags & 3);
}
constexpr technology type_v2(const layout::header& header) noexcept {
  return static_cast<technology>(header.flags >> 2 & 3);
}
constexpr bool includes_smcd(technology offered) noexcept {
  return offered == technology::smcd || offered == technology::both;
}

dibs::gid join(const layout::octets8& upper, const layout::octets8& lower) noexcept {
  dibs::gid gid;
  std::copy(upper.begin(), upper.end(), gid.bytes.begin());
  std::copy(lower.begin(), lower.end(), gid.bytes.begin() + 8);
  return gid;
}

// Takes part after part, so that no part overlaps another, and none the trailer.
class reader {
 public:
  explicit reader(std::span<const std::byte> in) noexcept : in_(in) {}

  template <wire_layout T>
  [[nodiscard]] bool get(T& part) noexcept {
    if (sizeof(T) > in_.size() - at_) return false;
    part = load_at<T>(in_, at_);
    at_ += sizeof(T);
    return true;
  }
  [[nodiscard]] bool skip(std::size_t size) noexcept {
    if (size > in_.size() - at_) return false;
    at_ += size;
    return true;
  }
  [[nodiscard]] std::size_t position() const noexcept { return at_; }
  [[nodiscard]] bool is_at_end() const noexcept { return at_ == in_.size(); }

 private:
  std::span<const std::byte> in_;
  std::size_t at_ = 0;
};

// As far as eight bytes tell. Type and version give the lengths that can be.
bool is_plausible(const layout::header& header) noexcept {
  const std::size_t length = header.length.load();
  const auto between = [length](std::size_t least, std::size_t most) noexcept {
    return length >= least && length <= most;
  };
  const std::uint8_t version = high_nibble(header.flags);
  if (version != 1 && version != 2) return false;
  constexpr std::size_t v1_tail = sizeof(layout::proposal_prefixes) + layout::trailer_size;
  constexpr std::size_t v1_most = v1_tail + layout::max_ipv6_prefixes * layout::ipv6_prefix_size;
  switch (static_cast<message_type>(header.type)) {
    case message_type::proposal:
      return version == 1 ? between(40 + v1_tail, 80 + v1_most)
                          : between(80 + layout::trailer_size, max_message_size);
    case message_type::accept:
    case message_type::confirm:
      if (type_v1(header) == technology::smcr) {
        return version == 1 ? length == layout::accept_smcr_v1_size
                            : between(layout::accept_smcr_v2_size, max_message_size);
      }
      if (type_v1(header) != technology::smcd) return false;
      if (version == 1) return length == layout::accept_v1_size;
      return (header.flags & layout::flag_in_header) == 0
                 ? length == layout::accept_v2_size
                 : length == layout::accept_first_size || length == layout::accept_first_v21_size;
    case message_type::decline:
      return length == (version == 1 ? layout::decline_v1_size : layout::decline_v2_size);
  }
  return false;
}

// True also while fewer than four bytes are there and none of them is wrong.
bool begins_with_eyecatcher(std::span<const std::byte> in) noexcept {
  const auto begins_with = [in](const layout::octets4& wanted) noexcept {
    const std::size_t known = std::min(in.size(), wanted.size());
    return std::equal(wanted.begin(), wanted.begin() + static_cast<std::ptrdiff_t>(known),
                      in.begin(),
                      [](std::uint8_t a, std::byte b) noexcept { return std::byte{a} == b; });
  };
  return begins_with(layout::eyecatcher_smcr) || begins_with(layout::eyecatcher_smcd);
}

// Half an emulated device is none, and does not count.
void list_devices(std::span<const layout::gid_chid> places, proposal& to) noexcept {
  for (std::size_t i = 0; i < places.size(); ++i) {
    device_name device{{}, {places[i].chid.load()}};
    if (!device.fabric.is_emulated()) {
      device.gid = join(places[i].gid, {});
    } else if (i + 1 < places.size() && places[i + 1].chid.load() == device.fabric.value) {
      device.gid = join(places[i].gid, places[i + 1].gid);
      ++i;
    } else {
      continue;
    }
    to.devices[to.device_count++] = device;
  }
}

// The bodies: whole messages of a plausible header, without their trailer.

// An offset of 0 says that the part is missing; any other must lead to where
// the part before it ends. False if the bytes are none of this.
bool read_extensions(technology offered, std::size_t v2_offset, reader& in,
                     proposal& message) noexcept {
  message.has_v2 = message.has_smcd_v2 = false;
  message.release = 0;
  message.features = 0;
  if (offered == technology::neither || v2_offset == 0) return true;

  constexpr std::size_t v2_from =
      sizeof(layout::proposal_base) + offsetof(layout::proposal_smcd, vendor);
  const std::size_t smcd_v2_from = in.position() + offsetof(layout::proposal_v2, roce_gid);
  layout::proposal_v2 v2;
  if (in.position() != v2_from + v2_offset || !in.get(v2)) return false;
  if (v2.ueid_count > max_ueids || v2.device_count > max_devices) return false;
  message.has_v2 = true;
  message.release = high_nibble(v2.flags);
  message.features = v2.features.load();
  message.has_seid = (v2.flags & layout::flag_seid) != 0;
  message.ueid_count = v2.ueid_count;
  for (std::size_t i = 0; i < v2.ueid_count; ++i) {
    if (!in.get(message.ueids[i])) return false;
  }

  const std::size_t smcd_v2_offset = v2.smcd_v2_offset.load();
  if (!includes_smcd(offered) || smcd_v2_offset == 0) return true;
  layout::proposal_smcd_v2 smcd_v2;
  if (in.position() != smcd_v2_from + smcd_v2_offset || !in.get(smcd_v2)) return false;
  message.has_smcd_v2 = true;
  if (message.has_seid) message.seid = smcd_v2.seid;
  std::array<layout::gid_chid, max_devices> places{};
  for (std::size_t i = 0; i < v2.device_count; ++i) {
    if (!in.get(places[i])) return false;
  }
  list_devices(std::span(places).first(v2.device_count), message);
  return true;
}

std::optional<proposal> read_proposal(const layout::header& header, reader in) noexcept {
  proposal message;
  message.version = high_nibble(header.flags);
  const bool is_v2 = message.version == 2;
  const technology v1 = type_v1(header);
  const bool has_prefixes = v1 != technology::neither;

  layout::proposal_base base;
  if (!in.get(base)) return std::nullopt;
  const std::size_t prefix_offset = base.prefix_offset.load();
  constexpr std::size_t smcd_size = sizeof(layout::proposal_smcd);
  if (prefix_offset > smcd_size || (!is_v2 && !has_prefixes)) return std::nullopt;
  if ((includes_smcd(v1) || (is_v2 && has_prefixes)) && prefix_offset != smcd_size) {
    return std::nullopt;
  }

  layout::proposal_smcd smcd{};
  if (!(is_v2 ? in.get(smcd) : in.skip(prefix_offset))) return std::nullopt;
  message.nonce = smcd.vendor.load();
  if (has_prefixes) {
    layout::proposal_prefixes prefixes;
    if (!in.get(prefixes) || prefixes.ipv6_count > layout::max_ipv6_prefixes ||
        !in.skip(prefixes.ipv6_count * layout::ipv6_prefix_size)) {
      return std::nullopt;
    }
  }
  const technology v2 = is_v2 ? type_v2(header) : technology::neither;
  if (!read_extensions(v2, smcd.v2_offset.load(), in, message) || !in.is_at_end()) {
    return std::nullopt;
  }
  return message;
}

std::optional<accept_confirm> read_accept(const layout::header& header, reader in) noexcept {
  accept_confirm message;
  message.type = static_cast<message_type>(header.type);
  message.version = high_nibble(header.flags);
  message.chosen = type_v1(header);
  message.first_contact = (header.flags & layout::flag_in_header) != 0;
  if (message.chosen == technology::smcr) return message;

  layout::accept_base base;
  if (!in.get(base)) return std::nullopt;
  message.size_code = high_nibble(base.size_code);
  if (base.dmbe_index != 0 || (message.size_code > max_size_code && !dibs::chaos::is_on()))
    return std::nullopt;
  message.gid = join(base.gid_upper, {});
  message.token = {base.token.load()};
  message.link_id = base.link_id.load();
  if (message.version == 1) return message;

  layout::accept_v2 part;
  if (!in.get(part)) return std::nullopt;
  message.fabric = {part.chid.load()};
  message.negotiated_eid = part.negotiated_eid;
  if (message.fabric.is_emulated()) message.gid = join(base.gid_upper, part.gid_lower);
  if (message.first_contact) {
    layout::first_contact contact;
    if (!in.get(contact)) return std::nullopt;
    message.release = low_nibble(contact.os_release);
    message.host = contact.host;
    if (message.release >= 1) {
      layout::first_contact_v21 more;
      if (!in.get(more)) return std::nullopt;
      message.features = more.features.load();
    }
  }
  if (!in.is_at_end()) return std::nullopt;
  return message;
}

std::optional<decline> read_decline(const layout::header& header, reader in) noexcept {
  layout::decline_base base;
  if (!in.get(base)) return std::nullopt;
  return decline{high_nibble(header.flags), static_cast<decline_code>(base.reason.load())};
}

template <class T>
decoded answer(const std::optional<T>& message, std::size_t size) noexcept {
  if (!message) return {};
  return {*message, size};
}

}  // namespace

decoded decode(std::span<const std::byte> in) noexcept {
  if (!begins_with_eyecatcher(in)) return {};
  if (in.size() < header_size) return {need_more{}, header_size};
  const auto header = load_at<layout::header>(in, 0);
  if (!is_plausible(header)) return {};
  const std::size_t size = header.length.load();
  if (in.size() < size) return {need_more{}, size};
  const std::size_t body_size = size - layout::trailer_size;
  if (!begins_with_eyecatcher(in.subspan(body_size))) return {};

  const reader body(in.first(body_size));
  switch (static_cast<message_type>(header.type)) {
    case message_type::proposal: return answer(read_proposal(header, body), size);
    case message_type::accept:
    case message_type::confirm: return answer(read_accept(header, body), size);
    case message_type::decline: return answer(read_decline(header, body), size);
  }
  return {};
}

}  // namespace smcd::clc
