// SPDX-License-Identifier: Apache-2.0
#include <smcd/error.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>

using smcd::decline_code;
using smcd::errc;
using smcd::to_text;

TEST_CASE("error: each code has its own text, and an unknown one has some") {
  std::set<std::string> texts;
  for (int code = 1; code <= 4; ++code) {
    const dibs::error_code made(code, smcd::smcd_category());
    CHECK(made.failed());
    CHECK(texts.insert(made.message()).second);
    char buffer[8];
    CHECK(std::string(made.message(buffer, sizeof buffer)) == made.message());
  }
  CHECK(smcd::smcd_category().message(0) == "unknown smcd error");
  CHECK(smcd::smcd_category().message(99) == "unknown smcd error");
  CHECK(std::string(smcd::smcd_category().name()) == "smcd");
}

TEST_CASE("error: a code converts by itself and differs from the one of the device layer") {
  const dibs::error_code made = errc::protocol_violation;
  CHECK(made == errc::protocol_violation);
  CHECK(made != errc::bad_eid);
  CHECK(made != dibs::errc::fabric_unusable);
  CHECK(made.category() == smcd::smcd_category());
}

TEST_CASE("error: each decline code has the value of SMC and words of its own") {
  struct {
    decline_code code;
    std::uint32_t value;
  } const table[] = {
      {decline_code::none, 0},
      {decline_code::memory, 0x01010000},
      {decline_code::confirm_link_timeout, 0x02010000},
      {decline_code::add_link_timeout, 0x02020000},
      {decline_code::configuration, 0x03000000},
      {decline_code::peer_no_smc, 0x03010000},
      {decline_code::ipsec, 0x03020000},
      {decline_code::no_device, 0x03030000},
      {decline_code::no_smcd_device, 0x03030001},
      {decline_code::no_smcr_device, 0x03030002},
      {decline_code::no_ism_v2, 0x03030003},
      {decline_code::no_v2_extension, 0x03030004},
      {decline_code::no_smcd_v2_extension, 0x03030005},
      {decline_code::no_seid, 0x03030006},
      {decline_code::no_smcd_v2_device, 0x03030007},
      {decline_code::no_ueid, 0x03030008},
      {decline_code::release_error, 0x03030009},
      {decline_code::max_connections_error, 0x0303000a},
      {decline_code::max_links_error, 0x0303000b},
      {decline_code::mode_unsupported, 0x03040000},
      {decline_code::rmb_eyecatcher, 0x03050000},
      {decline_code::option_unsupported, 0x03060000},
      {decline_code::different_prefix, 0x03070000},
      {decline_code::vlan_unknown, 0x03080000},
      {decline_code::ism_vlan_error, 0x03090000},
      {decline_code::no_active_link, 0x030a0000},
      {decline_code::no_server_link, 0x030b0000},
      {decline_code::version_mismatch, 0x030c0000},
      {decline_code::no_dmb_left, 0x030d0000},
      {decline_code::no_route, 0x030e0000},
      {decline_code::no_indirect_route, 0x030f0000},
      {decline_code::sync_error, 0x04000000},
      {decline_code::peer_declined, 0x05000000},
      {decline_code::internal_error, 0x09990000},
      {decline_code::rtoken_error, 0x09990001},
      {decline_code::ready_link_error, 0x09990002},
      {decline_code::register_buffer_error, 0x09990003},
  };
  std::set<std::string> texts{"unknown reason"};
  for (const auto& row : table) {
    CAPTURE(row.value);
    CHECK(static_cast<std::uint32_t>(row.code) == row.value);
    CHECK(texts.insert(to_text(row.code)).second);
  }
}

TEST_CASE("error: a decline code that nobody defined is an unknown reason") {
  for (const std::uint32_t value : {1U, 0x03030010U, 0xFFFFFFFFU}) {
    CHECK(std::string(to_text(static_cast<decline_code>(value))) == "unknown reason");
  }
  CHECK(std::string(to_text(decline_code::peer_no_smc)) == "peer did not signal SMC");
}
