// SPDX-License-Identifier: Apache-2.0
#include <smcd/wire.hpp>

#include <doctest/doctest.h>

#include <limits>

using smcd::be16;
using smcd::be32;
using smcd::be64;

static_assert(be64(0x0102030405060708).load() == 0x0102030405060708);
static_assert(be16().load() == 0);
static_assert(!std::is_convertible_v<be32, std::uint32_t>);
static_assert(!std::is_convertible_v<std::uint32_t, be32>);
static_assert(smcd::wire_layout<be64> && !smcd::wire_layout<std::uint64_t>);

namespace {

template <class T>
std::array<std::uint8_t, sizeof(T)> bytes_of(const T& value) {
  std::array<std::uint8_t, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

}  // namespace

TEST_CASE("wire: the most significant byte stands first") {
  CHECK(bytes_of(be16(0x0102)) == std::array<std::uint8_t, 2>{1, 2});
  CHECK(bytes_of(be32(0xFF020304)) == std::array<std::uint8_t, 4>{0xFF, 2, 3, 4});
  CHECK(bytes_of(be64(0x0102030405060708)) == std::array<std::uint8_t, 8>{1, 2, 3, 4, 5, 6, 7, 8});
}

TEST_CASE("wire: what was stored is loaded, up to the largest number") {
  be16 small;
  for (std::uint32_t value = 0; value <= 0xFFFF; ++value) {
    small.store(static_cast<std::uint16_t>(value));
    REQUIRE(small.load() == value);
  }
  for (unsigned bit = 0; bit < 64; ++bit) {
    CHECK(be64(std::uint64_t{1} << bit).load() == std::uint64_t{1} << bit);
    CHECK(be32(std::uint32_t{1} << bit % 32).load() == std::uint32_t{1} << bit % 32);
  }
  CHECK(be32(std::numeric_limits<std::uint32_t>::max()).load() == 0xFFFFFFFF);
  CHECK(be64(std::numeric_limits<std::uint64_t>::max()).load() == 0xFFFFFFFFFFFFFFFF);
}

TEST_CASE("wire: a part is stored and loaded at any offset, and nothing beside it") {
  for (std::size_t at = 0; at <= 4; ++at) {
    std::array<std::byte, 8> memory{};
    smcd::store_at(memory, at, be32(0xA1A2A3A4));
    CHECK(smcd::load_at<be32>(memory, at).load() == 0xA1A2A3A4);
    std::size_t zeros = 0;
    for (const std::byte one : memory) zeros += one == std::byte{0} ? 1 : 0;
    CHECK(zeros == 4);
  }
}
