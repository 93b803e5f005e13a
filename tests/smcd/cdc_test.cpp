// SPDX-License-Identifier: Apache-2.0
#include <smcd/cdc.hpp>

#include <support/random.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cstring>
#include <iomanip>
#include <sstream>
#include <string>

namespace cdc = smcd::cdc;

namespace {

std::string hex(const void* from, std::size_t size) {
  std::ostringstream text;
  const auto* bytes = static_cast<const unsigned char*>(from);
  for (std::size_t i = 0; i < size; ++i) {
    text << std::hex << std::setw(2) << std::setfill('0') << unsigned{bytes[i]};
  }
  return text.str();
}

}  // namespace

static_assert(alignof(cdc::record) == 8);
static_assert(offsetof(cdc::record, type) == 0 && offsetof(cdc::record, cpu) == 24);

TEST_CASE("cdc: a record stands in memory byte for byte as SMC-D has it") {
  REQUIRE(std::endian::native == std::endian::little);
  cdc::record record{};
  record.type = cdc::record_type;
  record.producer.store(cdc::pack({{1, 100}, 0, 0}));
  record.consumer.store(cdc::pack({{0, 4096}, cdc::write_blocked, cdc::sending_done}));
  CHECK(hex(&record, sizeof record) ==
        "fe00000000000000"
        "0100640000000000"
        "0000001000008080"
        "0000000000000000");
}

TEST_CASE("cdc: flags are those of the protocol") {
  CHECK(cdc::write_blocked == 0x80);
  CHECK(cdc::urgent_pending == 0x40);
  CHECK(cdc::urgent_present == 0x20);
  CHECK(cdc::update_requested == 0x10);
  CHECK(cdc::sending_done == 0x80);
  CHECK(cdc::closed == 0x40);
  CHECK(cdc::aborted == 0x20);
  CHECK(cdc::pack({{}, 0x10, 0x20}) == 0x2010000000000000);
}

TEST_CASE("cdc: any eight bytes are a cursor and flags, and back") {
  support::random random(2);
  for (int i = 0; i < 10000; ++i) {
    const std::uint64_t word = random.next();
    CHECK(cdc::pack(cdc::unpack(word)) == word);
  }
  const cdc::cursor_word most{{0xFFFF, 0xFFFFFFFF}, 0xFF, 0xFF};
  CHECK(cdc::pack(most) == ~std::uint64_t{0});
  CHECK(cdc::unpack(~std::uint64_t{0}) == most);
}
