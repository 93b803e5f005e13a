// SPDX-License-Identifier: Apache-2.0
#include <smcd/handshake.hpp>

#include <smcd/clc.hpp>

#include <algorithm>
#include <cassert>

namespace smcd {

handshake handshake::client(const identity& self, std::uint64_t nonce) noexcept {
  handshake made;
  made.role_ = handshake_role::client;
  made.self_ = self;

  clc::proposal message;
  message.nonce = nonce;
  for (const eid& one : made.own_ueids()) message.ueids[message.ueid_count++] = one;
  message.devices[message.device_count++] = {self.gid, self.fabric};
  made.say(message, handshake_step::receive_input);
  return made;
}

handshake handshake::server(const identity& self, std::uint64_t nonce) noexcept {
  handshake made;
  made.role_ = handshake_role::server;
  made.self_ = self;
  made.nonce_ = nonce;
  made.after_output_ = handshake_step::receive_input;
  return made;
}

handshake_step handshake::step() const noexcept {
  return output_sent_ < output_size_ ? handshake_step::send_output : after_output_;
}

std::span<const std::byte> handshake::get_output() const noexcept {
  return std::span(output_).subspan(output_sent_, std::size_t{output_size_} - output_sent_);
}

void handshake::output_sent(std::size_t n) noexcept {
  const std::size_t left = get_output().size();
  assert(n <= left);
  output_sent_ = static_cast<std::uint16_t>(output_sent_ + std::min(n, left));
}

dibs::error_code handshake::put_input(std::span<const std::byte> in) noexcept {
  const clc::decoded got = clc::decode(in);
  const bool is_whole = got.is_message() && got.size == in.size();
  if (const auto* said = got.get_if<clc::decline>(); said != nullptr && is_whole) {
    be_declined(said->reason);
    return {};
  }
  if (!is_whole) return refuse(errc::protocol_violation, decline_code::internal_error);
  if (step() != handshake_step::receive_input) {
    return refuse(errc::unexpected_message, decline_code::internal_error);
  }
  if (const auto* said = got.get_if<clc::proposal>()) return take(*said);
  return take(*got.get_if<clc::accept_confirm>());
}

void handshake::offer(dibs::dmb_token token, std::uint8_t size_code, std::uint32_t link_id,
                      bool first_contact) noexcept {
  if (step() != handshake_step::offer_dmb) return;
  const bool is_server = role_ == handshake_role::server;
  if (is_server) {
    link_id_ = link_id;
    first_contact_ = first_contact;
  }
  clc::accept_confirm message;
  message.type = is_server ? clc::message_type::accept : clc::message_type::confirm;
  message.first_contact = first_contact_;
  message.gid = self_.gid;
  message.token = token;
  message.size_code = size_code;
  message.link_id = link_id;
  message.fabric = self_.fabric;
  message.negotiated_eid = eid_;
  message.release = release_;
  message.features = features_;
  message.host = self_.host;
  say(message, is_server ? handshake_step::receive_input : handshake_step::established);
}

void handshake::decline(decline_code reason) noexcept {
  if (after_output_ == handshake_step::fallback) return;
  local_reason_ = reason;
  say(clc::decline{peer_version_, reason}, handshake_step::fallback);
}

void handshake::give_up(decline_code reason) noexcept {
  if (after_output_ != handshake_step::fallback) local_reason_ = reason;
  output_size_ = output_sent_ = 0;
  after_output_ = handshake_step::fallback;
}

// What was said before and did not begin to go out is not said any more.
template <class Message>
void handshake::say(const Message& message, handshake_step next) noexcept {
  const bool is_sent_in_part = output_sent_ != 0 && output_sent_ != output_size_;
  if (!is_sent_in_part) output_size_ = output_sent_ = 0;
  const std::size_t size = clc::encode(message, std::span(output_).subspan(output_size_));
  assert(size != 0);
  if (size == 0) return give_up(decline_code::internal_error);
  output_size_ = static_cast<std::uint16_t>(output_size_ + size);
  after_output_ = next;
}

// The peer broke a rule. Once it has all it wanted from us it is not told.
dibs::error_code handshake::refuse(errc what, decline_code reason) noexcept {
  if (step() == handshake_step::established) {
    give_up(reason);
  } else {
    decline(reason);
  }
  return make_error_code(what);
}

// Both sides may decline at the same time: then each has a reason of its own.
void handshake::be_declined(decline_code reason) noexcept {
  peer_reason_ = reason;
  if (after_output_ == handshake_step::fallback) return;
  local_reason_ = decline_code::peer_declined;
  if (output_sent_ == 0) output_size_ = 0;
  after_output_ = handshake_step::fallback;
}

// The server knows a gid of its peer once it has taken a Proposal.
dibs::error_code handshake::take(const clc::proposal& message) noexcept {
  if (role_ != handshake_role::server || !peer_gid_.is_none()) {
    return refuse(errc::unexpected_message, decline_code::internal_error);
  }
  const decline_code reason = judge(message);
  if (reason == decline_code::internal_error) return refuse(errc::protocol_violation, reason);
  if (reason != decline_code::none) {
    decline(reason);
  } else {
    after_output_ = handshake_step::offer_dmb;
  }
  return {};
}

dibs::error_code handshake::take(const clc::accept_confirm& message) noexcept {
  const bool is_server = role_ == handshake_role::server;
  const auto wanted = is_server ? clc::message_type::confirm : clc::message_type::accept;
  if (message.type != wanted || (is_server && peer_gid_.is_none())) {
    return refuse(errc::unexpected_message, decline_code::internal_error);
  }
  const decline_code reason = is_server ? judge_confirm(message) : judge_accept(message);
  if (reason != decline_code::none) return refuse(errc::protocol_violation, reason);
  peer_gid_ = message.gid;
  peer_token_ = message.token;
  peer_size_code_ = message.size_code;
  after_output_ = is_server ? handshake_step::established : handshake_step::offer_dmb;
  return {};
}

decline_code handshake::judge(const clc::proposal& message) noexcept {
  peer_version_ = message.version;
  if (message.version >= 2 && message.nonce != nonce_) return decline_code::internal_error;
  if (!message.has_v2) return decline_code::no_v2_extension;
  if (!message.has_smcd_v2) return decline_code::no_smcd_v2_extension;
  if (message.ueid_count == 0 && !message.has_seid) return decline_code::no_ueid;
  const eid* common = first_common(std::span(message.ueids).first(message.ueid_count), own_ueids());
  if (common == nullptr) return decline_code::no_smcd_device;
  const auto offered = std::span(message.devices).first(message.device_count);
  const auto device =
      std::find_if(offered.begin(), offered.end(), [this](const clc::device_name& one) noexcept {
        return one.fabric == self_.fabric && !one.gid.is_none();
      });
  if (device == offered.end()) return decline_code::no_smcd_v2_device;

  peer_gid_ = device->gid;
  eid_ = *common;
  release_ = std::min(message.release, clc::highest_release);
  if (release_ >= 1) features_ = message.features & clc::known_features;
  return decline_code::none;
}

decline_code handshake::judge_accept(const clc::accept_confirm& message) noexcept {
  if (message.version != 2 || message.chosen != clc::technology::smcd ||
      message.fabric != self_.fabric ||
      first_common(std::span(&message.negotiated_eid, 1), own_ueids()) == nullptr) {
    return decline_code::mode_unsupported;
  }
  // Not the first contact: the release of the link group stays, unsaid.
  if (message.release > clc::highest_release || (message.features & ~clc::known_features) != 0) {
    return decline_code::release_error;
  }
  if (message.gid.is_none() || message.token.is_none()) return decline_code::internal_error;

  link_id_ = message.link_id;
  first_contact_ = message.first_contact;
  eid_ = message.negotiated_eid;
  release_ = message.release;
  features_ = message.features;
  return decline_code::none;
}

decline_code handshake::judge_confirm(const clc::accept_confirm& message) const noexcept {
  if (message.version != 2 || message.chosen != clc::technology::smcd ||
      message.fabric != self_.fabric || message.negotiated_eid != eid_ ||
      message.gid != peer_gid_ || message.token.is_none()) {
    return decline_code::internal_error;
  }
  if (message.first_contact != first_contact_) return decline_code::sync_error;
  if (first_contact_ && (message.release != release_ || message.features != features_)) {
    return decline_code::release_error;
  }
  return decline_code::none;
}

std::span<const eid> handshake::own_ueids() const noexcept {
  return std::span(self_.ueids).first(std::min<std::size_t>(self_.ueid_count, self_.ueids.size()));
}

}  // namespace smcd
