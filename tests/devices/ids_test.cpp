// SPDX-License-Identifier: Apache-2.0
#include <devices/ids.hpp>

#include <doctest/doctest.h>

#include <string>
#include <type_traits>

using dibs::gid;

static_assert(!std::is_convertible_v<std::uint64_t, dibs::dmb_token>);
static_assert(!std::is_convertible_v<dibs::fabric_id, dibs::dmb_token>);
static_assert(sizeof(gid) == 16 && alignof(gid) == 1);

TEST_CASE("ids: a gid survives its text") {
  gid id;
  for (unsigned i = 0; i < 16; ++i) id.bytes[i] = static_cast<std::uint8_t>(i * 17);
  const auto text = dibs::to_text(id);
  CHECK(std::string(text.data()) == "00112233445566778899aabbccddeeff");
  CHECK(text[32] == '\0');
  CHECK(dibs::gid_from_text(text.data()) == id);
}

TEST_CASE("ids: a character that is no lower-case digit gives no gid, wherever it stands") {
  const std::string good(32, 'a');
  for (std::size_t at = 0; at < 32; ++at) {
    for (const char wrong : {'A', 'g', '/', ':', '`', ' ', '\0', '\x80'}) {
      std::string text = good;
      text[at] = wrong;
      CHECK(dibs::gid_from_text(text.data()).is_none());
    }
  }
}

TEST_CASE("ids: all zero means none") {
  CHECK(gid{}.is_none());
  CHECK(dibs::dmb_token{}.is_none());
  gid id;
  id.bytes[15] = 1;
  CHECK(!id.is_none());
  CHECK(!dibs::dmb_token{1}.is_none());
  CHECK(gid{} < id);
}

TEST_CASE("ids: fabrics from 0xFF00 on are emulated") {
  CHECK(!dibs::fabric_id{0xFEFF}.is_emulated());
  CHECK(dibs::fabric_id{0xFF00}.is_emulated());
  CHECK(dibs::loopback_fabric.is_emulated());
}
