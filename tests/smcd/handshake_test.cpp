// SPDX-License-Identifier: Apache-2.0
#include <smcd/handshake.hpp>

#include <smcd/clc.hpp>

#include "clc_vectors.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <string_view>

namespace clc = smcd::clc;
using smcd::decline_code;
using smcd::errc;
using smcd::handshake;
using smcd::handshake_role;
using smcd::handshake_step;
using vectors::bytes;

namespace {

constexpr std::uint64_t nonce = 0x0102030405060708;

dibs::gid gid_of(std::uint8_t value) {
  dibs::gid gid;
  gid.bytes.fill(value);
  return gid;
}

smcd::identity identity_of(std::uint8_t gid, std::initializer_list<std::string_view> ueids) {
  smcd::identity made{};
  made.gid = gid_of(gid);
  made.fabric = dibs::loopback_fabric;
  for (const std::string_view one : ueids) made.ueids[made.ueid_count++] = smcd::padded_eid(one);
  made.host = smcd::padded_eid("hosta").characters;
  return made;
}

const smcd::identity client_identity = identity_of(1, {"A", "B"});
const smcd::identity server_identity = identity_of(2, {"C", "B"});

// Takes all output, in pieces of at most `piece` bytes.
bytes output_of(handshake& from, std::size_t piece = 4096) {
  bytes all;
  while (from.step() == handshake_step::send_output) {
    const auto out = from.get_output();
    REQUIRE(!out.empty());
    const std::size_t n = std::min(piece, out.size());
    all.insert(all.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(n));
    from.output_sent(n);
  }
  CHECK(from.get_output().empty());
  return all;
}

template <class T>
bytes encoded(const T& value) {
  std::array<std::byte, clc::max_message_size> out{};
  const std::size_t size = encode(value, out);
  REQUIRE(size > 0);
  return {out.begin(), out.begin() + static_cast<std::ptrdiff_t>(size)};
}

template <class T>
T as(const bytes& message) {
  const clc::decoded got = clc::decode(message);
  REQUIRE(got.size == message.size());
  REQUIRE(got.get_if<T>() != nullptr);
  return *got.get_if<T>();
}

bool is_decline(const bytes& message, decline_code reason, std::uint8_t version = 2) {
  const clc::decoded got = clc::decode(message);
  const auto* found = got.get_if<clc::decline>();
  return found != nullptr && got.size == message.size() && *found == clc::decline{version, reason};
}

// Ends brought to a certain point of an undisturbed handshake.

handshake client_waiting() {
  handshake made = handshake::client(client_identity, nonce);
  output_of(made);
  return made;
}

clc::proposal good_proposal() {
  handshake client = handshake::client(client_identity, nonce);
  return as<clc::proposal>(output_of(client));
}

handshake server_offering() {
  handshake made = handshake::server(server_identity, nonce);
  REQUIRE(!made.put_input(encoded(good_proposal())));
  return made;
}

handshake server_waiting(bool first_contact = true) {
  handshake made = server_offering();
  made.offer({22}, 4, 0x100, first_contact);
  output_of(made);
  return made;
}

clc::accept_confirm good_accept(bool first_contact = true) {
  handshake made = server_offering();
  made.offer({22}, 4, 0x100, first_contact);
  return as<clc::accept_confirm>(output_of(made));
}

handshake client_offering(bool first_contact = true) {
  handshake made = client_waiting();
  REQUIRE(!made.put_input(encoded(good_accept(first_contact))));
  return made;
}

clc::accept_confirm good_confirm(bool first_contact = true) {
  handshake made = client_offering(first_contact);
  made.offer({11}, 3, 0x700, false);
  return as<clc::accept_confirm>(output_of(made));
}

handshake client_established() {
  handshake made = client_offering();
  made.offer({11}, 3, 0x700, false);
  output_of(made);
  return made;
}

handshake server_established() {
  handshake made = server_waiting();
  REQUIRE(!made.put_input(encoded(good_confirm())));
  return made;
}

// Every point that a machine can be at before fallback.
struct point {
  const char* name;
  handshake at;
};
std::vector<point> all_points() {
  handshake client_confirming = client_offering();
  client_confirming.offer({11}, 3, 0x700, false);
  handshake server_accepting = server_offering();
  server_accepting.offer({22}, 4, 0x100, true);
  return {{"client proposes", handshake::client(client_identity, nonce)},
          {"client waits", client_waiting()},
          {"client offers", client_offering()},
          {"client confirms", client_confirming},
          {"client established", client_established()},
          {"server waits for Proposal", handshake::server(server_identity, nonce)},
          {"server offers", server_offering()},
          {"server accepts", server_accepting},
          {"server waits for Confirm", server_waiting()},
          {"server established", server_established()}};
}

template <class Message>
Message changed(Message value, const std::function<void(Message&)>& change) {
  change(value);
  return value;
}

}  // namespace

TEST_CASE("handshake: two machines agree on SMC-D, whatever pieces are sent") {
  for (const bool first_contact : {true, false}) {
    for (const std::size_t piece : {1U, 7U, 64U, 4096U}) {
      handshake client = handshake::client(client_identity, nonce);
      handshake server = handshake::server(server_identity, nonce);
      CHECK(client.role() == handshake_role::client);
      CHECK(server.role() == handshake_role::server);
      CHECK(client.step() == handshake_step::send_output);
      CHECK(server.step() == handshake_step::receive_input);

      const bytes proposal = output_of(client, piece);
      CHECK(client.step() == handshake_step::receive_input);
      CHECK_FALSE(server.put_input(proposal));
      CHECK(server.step() == handshake_step::offer_dmb);
      CHECK(server.peer_gid() == gid_of(1));

      server.offer({0x22}, 8, 0x300, first_contact);
      const bytes accept = output_of(server, piece);
      CHECK(accept.size() == (first_contact ? 130 : 78));
      CHECK(server.step() == handshake_step::receive_input);
      CHECK_FALSE(client.put_input(accept));
      CHECK(client.step() == handshake_step::offer_dmb);
      CHECK(client.peer_gid() == gid_of(2));
      CHECK(client.peer_token() == dibs::dmb_token{0x22});
      CHECK(client.peer_size_code() == 8);

      client.offer({0x11}, 0, 0x900, !first_contact);
      CHECK(client.step() == handshake_step::send_output);
      const bytes confirm = output_of(client, piece);
      CHECK(confirm.size() == accept.size());
      CHECK(client.step() == handshake_step::established);
      CHECK_FALSE(server.put_input(confirm));
      CHECK(server.step() == handshake_step::established);
      CHECK(server.peer_token() == dibs::dmb_token{0x11});
      CHECK(server.peer_size_code() == 0);

      for (const handshake* end : {&client, &server}) {
        CHECK(end->link_id() == 0x300);
        CHECK(end->first_contact() == first_contact);
        CHECK(end->negotiated_eid().text() == "B");
        CHECK(end->fabric() == dibs::loopback_fabric);
        CHECK(end->local_reason() == decline_code::none);
        CHECK(end->peer_reason() == decline_code::none);
      }
    }
  }
}

TEST_CASE("handshake: the messages hold what was said of the sender") {
  const clc::proposal proposal = good_proposal();
  CHECK(proposal.nonce == nonce);
  CHECK(proposal.ueid_count == 2);
  CHECK(proposal.ueids[0].text() == "A");
  CHECK(proposal.device_count == 1);
  CHECK(proposal.devices[0] == clc::device_name{gid_of(1), dibs::loopback_fabric});

  const clc::accept_confirm accept = good_accept();
  CHECK(accept.type == clc::message_type::accept);
  CHECK(accept.gid == gid_of(2));
  CHECK(accept.token == dibs::dmb_token{22});
  CHECK(accept.size_code == 4);
  CHECK(accept.link_id == 0x100);
  CHECK(accept.host == server_identity.host);

  const clc::accept_confirm confirm = good_confirm();
  CHECK(confirm.type == clc::message_type::confirm);
  CHECK(confirm.gid == gid_of(1));
  CHECK(confirm.token == dibs::dmb_token{11});
  CHECK(confirm.size_code == 3);
  CHECK(confirm.link_id == 0x700);
  CHECK(confirm.release == accept.release);
  CHECK(confirm.features == accept.features);
}

TEST_CASE("handshake: the Proposal and the Accept are the vectors") {
  smcd::identity self = identity_of(0, {"MYCLUSTER-01"});
  std::fill_n(self.gid.bytes.begin(), 8, std::uint8_t{0x11});
  std::fill_n(self.gid.bytes.begin() + 8, 8, std::uint8_t{0x22});
  handshake client = handshake::client(self, 0);
  CHECK(output_of(client) == vectors::proposal());
  handshake server = handshake::server(self, 0);
  CHECK_FALSE(server.put_input(vectors::proposal()));
  server.offer({0x0102030405060708}, 6, 0x100, true);
  CHECK(output_of(server) == vectors::accept_first());
}

TEST_CASE("handshake: a copy made as bytes goes on where the original was") {
  for (const point& p : all_points()) {
    alignas(handshake) std::byte memory[sizeof(handshake)];
    std::memcpy(memory, &p.at, sizeof p.at);
    handshake copy;
    std::memcpy(static_cast<void*>(&copy), memory, sizeof copy);
    CHECK(copy.step() == p.at.step());
    CHECK(output_of(copy) == [&] {
      handshake original = p.at;
      return output_of(original);
    }());
  }
}

TEST_CASE("handshake: a Proposal that the server cannot use is declined with its reason") {
  using change = std::function<void(clc::proposal&)>;
  const struct {
    const char* what;
    change apply;
    decline_code reason;
    bool is_violation;
  } table[] = {
      {"no v2 extension", [](auto& p) { p.has_v2 = p.has_smcd_v2 = false; },
       decline_code::no_v2_extension, false},
      {"no SMC-D v2 extension", [](auto& p) { p.has_smcd_v2 = false; },
       decline_code::no_smcd_v2_extension, false},
      {"no EID at all", [](auto& p) { p.ueid_count = 0; }, decline_code::no_ueid, false},
      {"only a SEID",
       [](auto& p) {
         p.ueid_count = 0;
         p.has_seid = true;
         p.seid = smcd::padded_eid("B");
       },
       decline_code::no_smcd_device, false},
      {"no common UEID", [](auto& p) { p.ueids[1] = smcd::padded_eid("X"); },
       decline_code::no_smcd_device, false},
      {"no device", [](auto& p) { p.device_count = 0; }, decline_code::no_smcd_v2_device, false},
      {"another fabric", [](auto& p) { p.devices[0].fabric = {0xFF00}; },
       decline_code::no_smcd_v2_device, false},
      {"no gid", [](auto& p) { p.devices[0].gid = {}; }, decline_code::no_smcd_v2_device, false},
      {"another nonce", [](auto& p) { ++p.nonce; }, decline_code::internal_error, true},
      {"no nonce", [](auto& p) { p.nonce = 0; }, decline_code::internal_error, true},
  };
  for (const auto& row : table) {
    CAPTURE(row.what);
    handshake server = handshake::server(server_identity, nonce);
    const auto failure = server.put_input(encoded(changed(good_proposal(), row.apply)));
    CHECK(failure.failed() == row.is_violation);
    if (row.is_violation) CHECK(failure == errc::protocol_violation);
    CHECK(server.step() == handshake_step::send_output);
    CHECK(is_decline(output_of(server), row.reason));
    CHECK(server.step() == handshake_step::fallback);
    CHECK(server.local_reason() == row.reason);
    CHECK(server.peer_reason() == decline_code::none);
  }
}

TEST_CASE("handshake: a version 1 Proposal is declined in version 1") {
  handshake server = handshake::server(server_identity, nonce);
  const bytes proposal =
      vectors::from_hex(vectors::smcr + "01003410" + vectors::zeros(40) + vectors::smcr);
  CHECK_FALSE(server.put_input(proposal));
  CHECK(is_decline(output_of(server), decline_code::no_v2_extension, 1));
  CHECK(server.step() == handshake_step::fallback);
}

TEST_CASE("handshake: the first device on the server's fabric is the peer") {
  const clc::device_name other{gid_of(9), {0xFF00}};
  const clc::device_name first{gid_of(1), dibs::loopback_fabric};
  const clc::device_name second{gid_of(7), dibs::loopback_fabric};
  handshake server = handshake::server(server_identity, nonce);
  CHECK_FALSE(server.put_input(encoded(changed<clc::proposal>(good_proposal(), [&](auto& p) {
    p.device_count = 3;
    p.devices = {other, first, second};
  }))));
  CHECK(server.peer_gid() == gid_of(1));
}

TEST_CASE("handshake: the lower release is used, and the features that both have") {
  const struct {
    std::uint8_t release;
    std::uint16_t features;
    std::uint8_t wanted_release;
    std::uint16_t wanted_features;
    std::size_t size;
  } table[] = {
      {0, 0, 0, 0, 114},      {0, 0xFFFF, 0, 0, 114}, {1, 1, 1, 1, 130},  {1, 0xFFFF, 1, 1, 130},
      {1, 0xFFFE, 1, 0, 130}, {2, 1, 1, 1, 130},      {15, 1, 1, 1, 130},
  };
  for (const auto& row : table) {
    CAPTURE(row.features);
    handshake client = client_waiting();
    handshake server = handshake::server(server_identity, nonce);
    CHECK_FALSE(server.put_input(encoded(changed<clc::proposal>(good_proposal(), [&](auto& p) {
      p.release = row.release;
      p.features = row.features;
    }))));
    server.offer({22}, 4, 0x100, true);
    const bytes accept = output_of(server);
    CHECK(accept.size() == row.size);
    CHECK(as<clc::accept_confirm>(accept).release == row.wanted_release);
    CHECK(as<clc::accept_confirm>(accept).features == row.wanted_features);
    // A client lets itself be talked down.
    CHECK_FALSE(client.put_input(accept));
    client.offer({11}, 3, 0, false);
    CHECK_FALSE(server.put_input(output_of(client)));
    CHECK(server.step() == handshake_step::established);
  }
}

TEST_CASE("handshake: an Accept of what was not offered is declined") {
  using change = std::function<void(clc::accept_confirm&)>;
  const struct {
    const char* what;
    change apply;
    decline_code reason;
  } table[] = {
      {"version 1", [](auto& a) { a.version = 1; }, decline_code::mode_unsupported},
      {"another fabric", [](auto& a) { a.fabric = {0xFF00}; }, decline_code::mode_unsupported},
      {"another EID", [](auto& a) { a.negotiated_eid = smcd::padded_eid("C"); },
       decline_code::mode_unsupported},
      {"no EID", [](auto& a) { a.negotiated_eid = {}; }, decline_code::mode_unsupported},
      {"release 2", [](auto& a) { a.release = 2; }, decline_code::release_error},
      {"more features", [](auto& a) { a.features = 3; }, decline_code::release_error},
      {"no gid", [](auto& a) { a.gid = {}; }, decline_code::internal_error},
      {"no token", [](auto& a) { a.token = {}; }, decline_code::internal_error},
  };
  for (const auto& row : table) {
    CAPTURE(row.what);
    handshake client = client_waiting();
    const auto failure = client.put_input(encoded(changed(good_accept(), row.apply)));
    CHECK(failure == errc::protocol_violation);
    CHECK(is_decline(output_of(client), row.reason));
    CHECK(client.step() == handshake_step::fallback);
    CHECK(client.local_reason() == row.reason);
  }
}

TEST_CASE("handshake: an SMC-R Accept is declined as an unsupported mode") {
  const bytes smcr_v1 =
      vectors::from_hex(vectors::smcr + "02004410" + vectors::zeros(56) + vectors::smcr);
  const bytes smcr_v2 =
      vectors::from_hex(vectors::smcr + "02006c20" + vectors::zeros(96) + vectors::smcr);
  for (const bytes& accept : {smcr_v1, smcr_v2}) {
    handshake client = client_waiting();
    CHECK(client.put_input(accept) == errc::protocol_violation);
    CHECK(is_decline(output_of(client), decline_code::mode_unsupported));
    CHECK(client.step() == handshake_step::fallback);
  }
}

TEST_CASE("handshake: a Confirm that differs from the Accept is declined") {
  using change = std::function<void(clc::accept_confirm&)>;
  const struct {
    const char* what;
    change apply;
    decline_code reason;
  } table[] = {
      {"version 1", [](auto& c) { c.version = 1; }, decline_code::internal_error},
      {"another fabric", [](auto& c) { c.fabric = {0xFF00}; }, decline_code::internal_error},
      {"another EID", [](auto& c) { c.negotiated_eid = smcd::padded_eid("A"); },
       decline_code::internal_error},
      {"another gid", [](auto& c) { c.gid = gid_of(9); }, decline_code::internal_error},
      {"no token", [](auto& c) { c.token = {}; }, decline_code::internal_error},
      {"not first contact", [](auto& c) { c.first_contact = false; }, decline_code::sync_error},
      {"release 0", [](auto& c) { c.release = 0; }, decline_code::release_error},
      {"release 2", [](auto& c) { c.release = 2; }, decline_code::release_error},
      {"no features", [](auto& c) { c.features = 0; }, decline_code::release_error},
      {"more features", [](auto& c) { c.features = 3; }, decline_code::release_error},
  };
  for (const auto& row : table) {
    CAPTURE(row.what);
    handshake server = server_waiting();
    const auto failure = server.put_input(encoded(changed(good_confirm(), row.apply)));
    CHECK(failure == errc::protocol_violation);
    CHECK(is_decline(output_of(server), row.reason));
    CHECK(server.step() == handshake_step::fallback);
    CHECK(server.local_reason() == row.reason);
    CHECK(server.peer_token().is_none());
  }
  handshake server = server_waiting(false);
  CHECK(server.put_input(encoded(good_confirm(true))) == errc::protocol_violation);
  CHECK(is_decline(output_of(server), decline_code::sync_error));
}

TEST_CASE("handshake: a Decline of the peer ends in fallback at any point, unanswered") {
  for (point& p : all_points()) {
    for (const bytes& message : {vectors::decline(), vectors::decline_v1()}) {
      CAPTURE(p.name);
      handshake end = p.at;
      CHECK_FALSE(end.put_input(message));
      CHECK(end.step() == handshake_step::fallback);
      CHECK(end.get_output().empty());
      CHECK(end.local_reason() == decline_code::peer_declined);
      CHECK(end.peer_reason() == decline_code::no_ueid);
    }
  }
}

TEST_CASE("handshake: a Decline can be said at any point") {
  for (point& p : all_points()) {
    CAPTURE(p.name);
    p.at.decline(decline_code::memory);
    p.at.decline(decline_code::no_dmb_left);
    CHECK(p.at.step() == handshake_step::send_output);
    CHECK(is_decline(output_of(p.at, 5), decline_code::memory));
    CHECK(p.at.step() == handshake_step::fallback);
    CHECK(p.at.local_reason() == decline_code::memory);
    p.at.decline(decline_code::no_dmb_left);
    CHECK(p.at.step() == handshake_step::fallback);
    CHECK(p.at.local_reason() == decline_code::memory);
  }
}

TEST_CASE("handshake: each end understands the Decline of the other") {
  for (const decline_code reason : {decline_code::memory, decline_code::sync_error}) {
    for (point& one : all_points()) {
      for (point& other : all_points()) {
        handshake from = one.at;
        handshake to = other.at;
        from.decline(reason);
        CHECK_FALSE(to.put_input(output_of(from)));
        CHECK(to.step() == handshake_step::fallback);
        CHECK(to.peer_reason() == reason);
        CHECK(to.local_reason() == decline_code::peer_declined);
      }
    }
  }
}

TEST_CASE("handshake: a message sent in part is finished before a Decline") {
  for (const point& p : all_points()) {
    if (p.at.step() != handshake_step::send_output) continue;
    CAPTURE(p.name);
    handshake undisturbed = p.at;
    const bytes message = output_of(undisturbed);
    for (std::size_t sent = 1; sent < message.size(); ++sent) {
      const auto whole = static_cast<std::ptrdiff_t>(sent);
      handshake declines = p.at;
      declines.output_sent(sent);
      declines.decline(decline_code::memory);
      bytes all(message.begin(), message.begin() + whole);
      const bytes rest = output_of(declines, 10);
      all.insert(all.end(), rest.begin(), rest.end());
      CHECK(std::equal(message.begin(), message.end(), all.begin()));
      all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(message.size()));
      CHECK(is_decline(all, decline_code::memory));
      CHECK(declines.step() == handshake_step::fallback);

      handshake is_declined = p.at;
      is_declined.output_sent(sent);
      CHECK_FALSE(is_declined.put_input(vectors::decline()));
      CHECK(is_declined.step() == handshake_step::send_output);
      CHECK(output_of(is_declined).size() == message.size() - sent);
      CHECK(is_declined.step() == handshake_step::fallback);
    }
  }
}

TEST_CASE("handshake: the longest message and a Decline fit behind each other") {
  const smcd::identity self = identity_of(1, {"A", "B", "C", "D"});
  handshake client = handshake::client(self, nonce);
  CHECK(client.get_output().size() == 320);
  client.output_sent(1);
  client.decline(decline_code::memory);
  CHECK(client.get_output().size() == 319 + 44);
}

TEST_CASE("handshake: giving up says nothing more") {
  for (point& p : all_points()) {
    CAPTURE(p.name);
    handshake end = p.at;
    end.give_up(decline_code::configuration);
    CHECK(end.step() == handshake_step::fallback);
    CHECK(end.get_output().empty());
    CHECK(end.local_reason() == decline_code::configuration);
    CHECK(end.peer_reason() == decline_code::none);

    handshake declining = p.at;
    declining.decline(decline_code::memory);
    declining.give_up(decline_code::configuration);
    CHECK(declining.step() == handshake_step::fallback);
    CHECK(declining.get_output().empty());
    CHECK(declining.local_reason() == decline_code::memory);
  }
}

TEST_CASE("handshake: bytes that are no message end in fallback at any point") {
  const bytes table[] = {
      {},
      vectors::from_hex("00"),
      vectors::from_hex("474554202f20485454502f312e310d0a"),
      bytes(300, std::byte{0xFF}),
  };
  for (const bytes& message : table) {
    for (point& p : all_points()) {
      CAPTURE(p.name);
      handshake end = p.at;
      const bool was_established = end.step() == handshake_step::established;
      CHECK(end.put_input(message) == errc::protocol_violation);
      const bytes answer = output_of(end);
      if (was_established) {
        CHECK(answer.empty());
      } else {
        CHECK(is_decline(answer, decline_code::internal_error));
      }
      CHECK(end.step() == handshake_step::fallback);
      CHECK(end.local_reason() == decline_code::internal_error);
    }
  }
}

TEST_CASE("handshake: a message that is cut or has something behind it is refused") {
  const struct {
    handshake end;
    bytes message;
  } table[] = {
      {handshake::server(server_identity, nonce), encoded(good_proposal())},
      {client_waiting(), encoded(good_accept())},
      {client_waiting(), vectors::decline()},
      {server_waiting(), encoded(good_confirm())},
  };
  for (const auto& row : table) {
    for (std::size_t n = 0; n < row.message.size(); ++n) {
      handshake end = row.end;
      CHECK(end.put_input(std::span(row.message).first(n)) == errc::protocol_violation);
      CHECK(is_decline(output_of(end), decline_code::internal_error));
      CHECK(end.step() == handshake_step::fallback);
    }
    bytes longer = row.message;
    longer.push_back(std::byte{0});
    handshake end = row.end;
    CHECK(end.put_input(longer) == errc::protocol_violation);
    CHECK(is_decline(output_of(end), decline_code::internal_error));
    handshake undisturbed = row.end;
    CHECK_FALSE(undisturbed.put_input(row.message));
  }
}

TEST_CASE("handshake: a message out of turn is refused") {
  const bytes messages[] = {encoded(good_proposal()), encoded(good_accept()),
                            encoded(good_confirm())};
  for (std::size_t i = 0; i < std::size(messages); ++i) {
    for (point& p : all_points()) {
      CAPTURE(p.name);
      CAPTURE(i);
      const std::string_view name = p.name;
      if ((i == 0 && name == "server waits for Proposal") || (i == 1 && name == "client waits") ||
          (i == 2 && name == "server waits for Confirm")) {
        continue;
      }
      handshake end = p.at;
      const bool was_established = end.step() == handshake_step::established;
      CHECK(end.put_input(messages[i]) == errc::unexpected_message);
      const bytes answer = output_of(end);
      CHECK(answer.empty() == was_established);
      if (!was_established) CHECK(is_decline(answer, decline_code::internal_error));
      CHECK(end.step() == handshake_step::fallback);
    }
  }
}

TEST_CASE("handshake: after fallback nothing changes but what the peer's Decline says") {
  handshake end = client_waiting();
  end.give_up(decline_code::configuration);
  CHECK(end.put_input(encoded(good_accept())) == errc::unexpected_message);
  CHECK(end.put_input(bytes(9)) == errc::protocol_violation);
  end.offer({1}, 1, 1, true);
  end.decline(decline_code::memory);
  end.give_up(decline_code::memory);
  CHECK(end.step() == handshake_step::fallback);
  CHECK(end.get_output().empty());
  CHECK_FALSE(end.put_input(vectors::decline()));
  CHECK(end.step() == handshake_step::fallback);
  CHECK(end.local_reason() == decline_code::configuration);
  CHECK(end.peer_reason() == decline_code::no_ueid);
}

TEST_CASE("handshake: when both decline at the same time each keeps its own reason") {
  handshake client = client_offering();
  handshake server = server_waiting();
  client.decline(decline_code::sync_error);
  server.decline(decline_code::memory);
  const bytes from_client = output_of(client);
  const bytes from_server = output_of(server);
  CHECK_FALSE(client.put_input(from_server));
  CHECK_FALSE(server.put_input(from_client));
  CHECK(client.local_reason() == decline_code::sync_error);
  CHECK(client.peer_reason() == decline_code::memory);
  CHECK(server.local_reason() == decline_code::memory);
  CHECK(server.peer_reason() == decline_code::sync_error);
}

TEST_CASE("handshake: an offer that nobody asked for is ignored") {
  for (point& p : all_points()) {
    if (p.at.step() == handshake_step::offer_dmb) continue;
    CAPTURE(p.name);
    handshake end = p.at;
    end.offer({99}, 1, 99, true);
    CHECK(end.step() == p.at.step());
    CHECK(std::equal(end.get_output().begin(), end.get_output().end(), p.at.get_output().begin(),
                     p.at.get_output().end()));
    CHECK(end.link_id() == p.at.link_id());
  }
}

TEST_CASE("handshake: any byte of a message changed ends in SMC-D or in TCP") {
  const struct {
    handshake end;
    bytes message;
  } table[] = {
      {handshake::server(server_identity, nonce), encoded(good_proposal())},
      {client_waiting(), encoded(good_accept())},
      {client_waiting(), encoded(good_accept(false))},
      {server_waiting(), encoded(good_confirm())},
      {server_waiting(false), encoded(good_confirm(false))},
  };
  for (const auto& row : table) {
    for (std::size_t at = 0; at < row.message.size(); ++at) {
      for (unsigned value = 0; value < 256; ++value) {
        bytes message = row.message;
        message[at] = static_cast<std::byte>(value);
        handshake end = row.end;
        const auto failure = end.put_input(message);
        if (end.step() == handshake_step::send_output) {
          const bytes answer = output_of(end);
          REQUIRE(as<clc::decline>(answer).reason == end.local_reason());
          REQUIRE(end.step() == handshake_step::fallback);
        } else {
          REQUIRE_FALSE(failure);
          REQUIRE(end.peer_size_code() <= clc::max_size_code);
          REQUIRE_FALSE(end.peer_gid().is_none());
        }
      }
    }
  }
}
