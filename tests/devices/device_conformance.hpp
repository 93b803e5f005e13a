// SPDX-License-Identifier: Apache-2.0
#pragma once
// What every device must do, whatever its fabric is. A fixture brings two
// devices of one fabric:
//   dibs::device& owner(), writer();
//   void writer_dies();   // like kill -9: its device vanishes, nothing is let go

#include <devices/device.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string_view>
#include <vector>

namespace conformance {

using dibs::dmb;
using dibs::dmb_token;
using dibs::gid;
using dibs::max_dmb_size;
using dibs::min_dmb_size;

inline gid nobody() {
  gid id;
  id.bytes.fill(0xEE);
  return id;
}

inline dmb registered(dibs::device& on, const gid& writer, std::uint32_t size = min_dmb_size) {
  const auto made = on.register_dmb(writer, size);
  REQUIRE(made.has_value());
  return *made;
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
inline bool holds(std::span<const std::byte> memory, std::string_view text) {
  return std::memcmp(memory.data(), text.data(), text.size()) == 0;
}

template <class Fixture>
void run() {
  SUBCASE("devices find each other, and nobody else") {
    Fixture on;
    CHECK(on.owner().chid() == on.writer().chid());
    CHECK(on.owner().id() != on.writer().id());
    CHECK(on.owner().query_remote_gid(on.writer().id()));
    CHECK(on.owner().query_remote_gid(on.owner().id()));
    CHECK(!on.owner().query_remote_gid(nobody()));
    CHECK(on.owner().max_dmbs() > 0);
  }

  SUBCASE("what the writer writes the owner reads") {
    Fixture on;
    const dmb mine = registered(on.owner(), on.writer().id());
    CHECK(!mine.token.is_none());
    CHECK(mine.memory.size() == min_dmb_size);
    CHECK(reinterpret_cast<std::uintptr_t>(mine.memory.data()) % 64 == 0);
    CHECK(std::all_of(mine.memory.begin(), mine.memory.begin() + 32,
                      [](std::byte b) { return b == std::byte{0}; }));
    const auto theirs = on.writer().attach_dmb(on.owner().id(), mine.token);
    REQUIRE(theirs.has_value());
    CHECK(theirs->token == mine.token);
    CHECK(theirs->memory.size() == mine.memory.size());
    std::memcpy(theirs->memory.data() + 100, "hello", 5);
    CHECK(holds(mine.memory.subspan(100), "hello"));
    theirs->memory.back() = std::byte{7};
    CHECK(mine.memory.back() == std::byte{7});
    on.writer().detach_dmb(on.owner().id(), mine.token);
    on.owner().unregister_dmb(on.writer().id(), mine.token);
  }

  SUBCASE("sizes are powers of two from the smallest to the largest") {
    Fixture on;
    const gid writer = on.writer().id();
    for (std::uint32_t size = min_dmb_size; size <= max_dmb_size; size *= 2) {
      const dmb made = registered(on.owner(), writer, size);
      CHECK(made.memory.size() == size);
      made.memory.back() = std::byte{1};
      const auto attached = on.writer().attach_dmb(on.owner().id(), made.token);
      REQUIRE(attached.has_value());
      CHECK(attached->memory.size() == size);
    }
    for (const std::uint32_t size :
         {std::uint32_t{0}, std::uint32_t{1}, min_dmb_size - 1, min_dmb_size / 2, min_dmb_size + 1,
          3 * min_dmb_size, max_dmb_size - 1, max_dmb_size * 2, std::uint32_t{0x80000000},
          ~std::uint32_t{0}}) {
      const auto made = on.owner().register_dmb(writer, size);
      REQUIRE(!made.has_value());
      CHECK(made.error() == dibs::errc::bad_size);
    }
  }

  SUBCASE("DMBs do not overlap, and every token is new") {
    Fixture on;
    std::vector<dmb> made;
    std::set<std::uint64_t> tokens;
    for (int i = 0; i < 600; ++i) {
      const std::uint32_t size = min_dmb_size << (i % 3);
      made.push_back(registered(on.owner(), on.writer().id(), size));
      tokens.insert(made.back().token.value);
      std::memset(made.back().memory.data(), i & 0xFF, size);
    }
    CHECK(tokens.size() == made.size());
    for (std::size_t i = 0; i < made.size(); ++i) {
      const auto value = static_cast<std::byte>(i & 0xFF);
      CHECK(made[i].memory.front() == value);
      CHECK(made[i].memory[made[i].memory.size() / 2] == value);
      CHECK(made[i].memory.back() == value);
    }
  }

  SUBCASE("wrong tokens attach nothing") {
    Fixture on;
    const dmb mine = registered(on.owner(), on.writer().id());
    const auto fails = [&](dibs::device& device, const gid& owner, dmb_token token) {
      const auto attached = device.attach_dmb(owner, token);
      return !attached && (attached.error() == dibs::errc::unknown_token ||
                           attached.error() == dibs::errc::unknown_gid);
    };
    CHECK(fails(on.writer(), on.owner().id(), {}));
    CHECK(fails(on.writer(), nobody(), mine.token));
    for (int bit = 0; bit < 64; ++bit) {
      CHECK(fails(on.writer(), on.owner().id(), {mine.token.value ^ std::uint64_t{1} << bit}));
    }
    CHECK(fails(on.writer(), on.owner().id(), {~std::uint64_t{0}}));
    // Writable by the one that was named, not by its owner.
    CHECK(fails(on.owner(), on.owner().id(), mine.token));
    // All that did not spoil it.
    CHECK(on.writer().attach_dmb(on.owner().id(), mine.token).has_value());
    // One writer, once.
    CHECK(fails(on.writer(), on.owner().id(), mine.token));
  }

  SUBCASE("a token is void once the owner let go") {
    Fixture on;
    const dmb mine = registered(on.owner(), on.writer().id());
    on.owner().unregister_dmb(on.writer().id(), mine.token);
    const auto attached = on.writer().attach_dmb(on.owner().id(), mine.token);
    CHECK(!attached.has_value());
    on.owner().unregister_dmb(on.writer().id(), mine.token);
    on.owner().unregister_dmb(nobody(), mine.token);
    on.writer().detach_dmb(nobody(), mine.token);
  }

  SUBCASE("memory is used again only when owner and writer let go, in either order") {
    Fixture on;
    const gid owner = on.owner().id();
    const gid writer = on.writer().id();
    const dmb first = registered(on.owner(), writer);
    REQUIRE(on.writer().attach_dmb(owner, first.token).has_value());

    on.owner().unregister_dmb(writer, first.token);
    const dmb second = registered(on.owner(), writer);
    CHECK(second.memory.data() != first.memory.data());
    on.writer().detach_dmb(owner, first.token);
    const dmb third = registered(on.owner(), writer);
    CHECK(third.memory.data() == first.memory.data());
    CHECK(third.token != first.token);
    CHECK(!on.writer().attach_dmb(owner, first.token).has_value());

    REQUIRE(on.writer().attach_dmb(owner, third.token).has_value());
    on.writer().detach_dmb(owner, third.token);
    CHECK(registered(on.owner(), writer).memory.data() != third.memory.data());
    on.owner().unregister_dmb(writer, third.token);
    CHECK(registered(on.owner(), writer).memory.data() == third.memory.data());
  }

  SUBCASE("what is used again begins with an empty control record") {
    Fixture on;
    const gid writer = on.writer().id();
    const dmb first = registered(on.owner(), writer);
    std::memset(first.memory.data(), 0xFF, first.memory.size());
    on.owner().unregister_dmb(writer, first.token);
    const dmb again = registered(on.owner(), writer);
    REQUIRE(again.memory.data() == first.memory.data());
    CHECK(std::all_of(again.memory.begin(), again.memory.begin() + 32,
                      [](std::byte b) { return b == std::byte{0}; }));
  }

  SUBCASE("a connection after the other costs no more memory") {
    Fixture on;
    const gid owner = on.owner().id();
    const gid writer = on.writer().id();
    std::set<const std::byte*> places;
    for (int i = 0; i < 5000; ++i) {
      const dmb mine = registered(on.owner(), writer);
      places.insert(mine.memory.data());
      REQUIRE(on.writer().attach_dmb(owner, mine.token).has_value());
      on.writer().detach_dmb(owner, mine.token);
      on.owner().unregister_dmb(writer, mine.token);
    }
    CHECK(places.size() == 1);
  }

  SUBCASE("there is an end to DMBs, and it is an error code") {
    Fixture on;
    const gid writer = on.writer().id();
    std::vector<dmb_token> tokens;
    dibs::error_code failure;
    while (tokens.size() <= on.owner().max_dmbs()) {
      const auto made = on.owner().register_dmb(writer, min_dmb_size);
      if (!made) {
        failure = made.error();
        break;
      }
      tokens.push_back(made->token);
    }
    CHECK(failure == dibs::errc::no_dmb_left);
    CHECK(tokens.size() >= 1000);
    on.owner().unregister_dmb(writer, tokens[77]);
    CHECK(on.owner().register_dmb(writer, min_dmb_size).has_value());
  }

  SUBCASE("letting go of what is not there makes no room beyond the end") {
    Fixture on;
    const gid writer = on.writer().id();
    const dmb mine = registered(on.owner(), writer);
    for (std::uint32_t i = 0; i < 100; ++i)
      on.owner().unregister_dmb(writer, {mine.token.value + 1});
    CHECK(on.writer().attach_dmb(on.owner().id(), mine.token).has_value());
  }

  SUBCASE("move_data writes inside the DMB and nowhere else") {
    Fixture on;
    const gid owner = on.owner().id();
    const dmb before = registered(on.owner(), on.writer().id());
    const dmb mine = registered(on.owner(), on.writer().id());
    const dmb behind = registered(on.owner(), on.writer().id());
    std::memset(before.memory.data(), 0, before.memory.size());
    std::memset(behind.memory.data(), 0, behind.memory.size());
    const auto move = [&](std::uint32_t offset, std::span<const std::byte> data) {
      return on.writer().move_data(owner, mine.token, offset, data);
    };
    CHECK(move(0, bytes_of("early")));  // not attached yet
    REQUIRE(on.writer().attach_dmb(owner, mine.token).has_value());
    CHECK(!move(0, bytes_of("hello")));
    CHECK(holds(mine.memory, "hello"));
    CHECK(!move(min_dmb_size - 3, bytes_of("end")));
    CHECK(holds(mine.memory.subspan(min_dmb_size - 3), "end"));
    CHECK(!move(min_dmb_size, {}));
    CHECK(!move(5, {}));

    const std::vector<std::byte> much(min_dmb_size + 1, std::byte{9});
    CHECK(!move(0, std::span(much).first(min_dmb_size)));
    CHECK(mine.memory.back() == std::byte{9});
    for (const auto& [offset, size] :
         std::vector<std::pair<std::uint32_t, std::size_t>>{{0, min_dmb_size + 1},
                                                            {1, min_dmb_size},
                                                            {min_dmb_size, 1},
                                                            {min_dmb_size + 1, 0},
                                                            {~std::uint32_t{0}, 1},
                                                            {~std::uint32_t{0}, 0},
                                                            {0x80000000, min_dmb_size}}) {
      CHECK(move(offset, std::span(much).first(size)) == dibs::errc::bad_size);
    }
    CHECK(before.memory.back() == std::byte{0});
    CHECK(behind.memory.front() == std::byte{0});
    CHECK(on.writer().move_data(owner, before.token, 0, much) == dibs::errc::unknown_token);
    CHECK(on.writer().move_data(owner, {}, 0, much) == dibs::errc::unknown_token);
    CHECK(on.writer().move_data(nobody(), mine.token, 0, much) == dibs::errc::unknown_gid);
    on.writer().detach_dmb(owner, mine.token);
    CHECK(move(0, bytes_of("late")) == dibs::errc::unknown_token);
  }

  SUBCASE("the memory of a writer that died is used again") {
    Fixture on;
    const gid writer = on.writer().id();
    const dmb mine = registered(on.owner(), writer);
    REQUIRE(on.writer().attach_dmb(on.owner().id(), mine.token).has_value());
    on.writer_dies();
    CHECK(!on.owner().query_remote_gid(writer));
    // What stands in it can still be read.
    CHECK(mine.memory[0] == std::byte{0});
    on.owner().unregister_dmb(writer, mine.token);
    on.expect_dropped(writer);
  }
}

}  // namespace conformance
