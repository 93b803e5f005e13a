// SPDX-License-Identifier: Apache-2.0
#pragma once
// The CLC handshake of one connection, both roles, without any I/O: step() says
// what the driver has to do next. Ends in SMC-D or in TCP, and never blocks,
// allocates, or looks at a clock.
//
//   client: Proposal >   Accept <   offer_dmb   Confirm >   established
//   server: Proposal <   offer_dmb   Accept >   Confirm <   established
//
// Either side may say Decline instead and goes on in TCP. Nobody answers a
// Decline, and nobody acknowledges the Confirm.

#include <devices/error.hpp>
#include <devices/ids.hpp>
#include <smcd/eid.hpp>
#include <smcd/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace smcd {

namespace clc {
struct proposal;
struct accept_confirm;
}  // namespace clc

// What this process says of itself.
struct identity {
  dibs::gid gid;
  dibs::fabric_id fabric;
  std::array<eid, 4> ueids;  // preference order
  std::uint8_t ueid_count;
  std::array<char, 32> host;  // blank padded
};

enum class handshake_role : std::uint8_t { client, server };

enum class handshake_step : std::uint8_t {
  send_output,    // get_output() is not empty: send it, then output_sent()
  receive_input,  // a whole CLC message of the peer is wanted: put_input()
  offer_dmb,      // make a DMB for peer_gid() (client: attach peer_token() too),
                  // then offer() or decline()
  established,    // both messages are through: SMC-D
  fallback,       // TCP for good: local_reason(), peer_reason()
};

// Not thread-safe. Stands in memory that parent and child share after fork, so
// it holds no pointer and may be copied and moved as bytes.
class handshake {
 public:
  // An object that takes part in nothing; assign one of the two below.
  handshake() noexcept = default;
  // The nonce is the one that both ends know of this connection.
  [[nodiscard]] static handshake client(const identity& self, std::uint64_t nonce) noexcept;
  [[nodiscard]] static handshake server(const identity& self, std::uint64_t nonce) noexcept;

  [[nodiscard]] handshake_step step() const noexcept;
  [[nodiscard]] handshake_role role() const noexcept { return role_; }

  // Bytes for the peer; empty unless the step is send_output. Valid until the
  // next call that is not const.
  [[nodiscard]] std::span<const std::byte> get_output() const noexcept;
  // So many of them went out, from the front; may be less than all.
  void output_sent(std::size_t n) noexcept;

  // One whole message, exactly as long as its own length field says. Anything
  // else, malformed or out of turn: an error is returned and the step becomes
  // fallback, after a Decline where the peer still waits for an answer. No
  // error for what ends in TCP by the rules: a Decline of the peer (at any
  // step), or a Proposal that we can't use.
  dibs::error_code put_input(std::span<const std::byte> message) noexcept;

  // The answer to offer_dmb; ignored at any other step. size_code: 16 KiB <<
  // code, at most 8. first_contact: the server makes a new link group (client:
  // ignored). Each end tells its own link_id; the server's is kept.
  void offer(dibs::dmb_token token, std::uint8_t size_code, std::uint32_t link_id,
             bool first_contact) noexcept;

  // At any step but fallback: a Decline goes out (behind the rest of a message
  // that was sent in part), then fallback. The first reason stays.
  void decline(decline_code reason) noexcept;
  // Fallback at once, without a word to the peer (timeout, TCP broken). What
  // was not sent yet is dropped.
  void give_up(decline_code reason) noexcept;

  // Of the peer, from its Accept or Confirm. The server knows the gid from the
  // Proposal on.
  [[nodiscard]] dibs::gid peer_gid() const noexcept { return peer_gid_; }
  [[nodiscard]] dibs::dmb_token peer_token() const noexcept { return peer_token_; }
  [[nodiscard]] std::uint8_t peer_size_code() const noexcept { return peer_size_code_; }

  // As the server said them in its Accept; both ends have the same.
  [[nodiscard]] std::uint32_t link_id() const noexcept { return link_id_; }
  [[nodiscard]] bool first_contact() const noexcept { return first_contact_; }
  [[nodiscard]] const eid& negotiated_eid() const noexcept { return eid_; }
  [[nodiscard]] dibs::fabric_id fabric() const noexcept { return self_.fabric; }

  // Why TCP. If it was the peer who declined: peer_declined, and its code.
  [[nodiscard]] decline_code local_reason() const noexcept { return local_reason_; }
  [[nodiscard]] decline_code peer_reason() const noexcept { return peer_reason_; }

 private:
  // Our longest message, a Proposal with four UEIDs (320), and a Decline (44).
  static constexpr std::size_t output_capacity = 364;

  template <class Message>
  void say(const Message&, handshake_step next) noexcept;
  dibs::error_code refuse(errc, decline_code) noexcept;
  void be_declined(decline_code) noexcept;
  [[nodiscard]] dibs::error_code take(const clc::proposal&) noexcept;
  [[nodiscard]] dibs::error_code take(const clc::accept_confirm&) noexcept;
  [[nodiscard]] decline_code judge(const clc::proposal&) noexcept;
  [[nodiscard]] decline_code judge_accept(const clc::accept_confirm&) noexcept;
  [[nodiscard]] decline_code judge_confirm(const clc::accept_confirm&) const noexcept;
  [[nodiscard]] std::span<const eid> own_ueids() const noexcept;

  identity self_{};
  std::uint64_t nonce_ = 0;  // server: what the Proposal must hold
  dibs::dmb_token peer_token_;
  decline_code local_reason_ = decline_code::none;
  decline_code peer_reason_ = decline_code::none;
  std::uint32_t link_id_ = 0;
  std::uint16_t features_ = 0;
  std::uint16_t output_size_ = 0;
  std::uint16_t output_sent_ = 0;
  handshake_role role_ = handshake_role::client;
  handshake_step after_output_{};  // the step once all output is sent
  std::uint8_t release_ = 0;
  std::uint8_t peer_size_code_ = 0;
  std::uint8_t peer_version_ = 2;
  bool first_contact_ = false;
  dibs::gid peer_gid_;
  eid eid_;
  std::array<std::byte, output_capacity> output_{};
};
static_assert(std::is_trivially_copyable_v<handshake> && std::is_standard_layout_v<handshake>);

}  // namespace smcd
