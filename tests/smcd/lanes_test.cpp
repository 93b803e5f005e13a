// SPDX-License-Identifier: Apache-2.0
#include <smcd/lanes.hpp>

#include <support/random.hpp>

#include <doctest/doctest.h>

using dibs::mark;
using dibs::max_marks;
using dibs::record_side;
using smcd::look_at_mark;
using smcd::mark_clc;
using smcd::mark_to_dmb;
using smcd::mark_to_tcp;
using answer = smcd::next_mark::answer;

TEST_CASE("lanes: marks come in order, and places come back") {
  record_side sender{};
  record_side receiver{};
  std::uint32_t published = 0;
  std::uint32_t taken = 0;
  CHECK(look_at_mark(sender, taken, 0).what == answer::none);
  for (std::uint64_t round = 0; round < 100; ++round) {
    for (std::uint32_t i = 0; i < max_marks; ++i) {
      REQUIRE(smcd::can_publish(receiver, published));
      smcd::publish_mark(sender, published,
                         {round * 10 + i, i % 2 == 0 ? mark_to_dmb : mark_to_tcp, 0});
    }
    CHECK(!smcd::can_publish(receiver, published));
    for (std::uint32_t i = 0; i < max_marks; ++i) {
      const auto next = look_at_mark(sender, taken, round * 10 + i);
      REQUIRE(next.what == answer::found);
      CHECK(next.at.offset == round * 10 + i);
      CHECK(next.at.kind == (i % 2 == 0 ? mark_to_dmb : mark_to_tcp));
      smcd::take_mark(receiver, taken);
      CHECK(smcd::can_publish(receiver, published));
    }
    CHECK(look_at_mark(sender, taken, ~std::uint64_t{0}).what == answer::none);
  }
}

TEST_CASE("lanes: counts run through 2^32") {
  record_side sender{};
  record_side receiver{};
  std::uint32_t published = 0xFFFFFFFE;
  std::uint32_t taken = published;
  sender.marks_published = published;
  receiver.marks_taken = taken;
  for (int i = 0; i < 10; ++i) {
    REQUIRE(smcd::can_publish(receiver, published));
    smcd::publish_mark(sender, published, {7, mark_clc, 44});
    CHECK(look_at_mark(sender, taken, 7).what == answer::found);
    smcd::take_mark(receiver, taken);
    CHECK(look_at_mark(sender, taken, 7).what == answer::none);
  }
  CHECK(taken == 8);
}

TEST_CASE("lanes: a mark that no correct peer publishes is invalid") {
  const auto look = [](mark at, std::uint64_t offset) {
    record_side sender{};
    std::uint32_t published = 0;
    smcd::publish_mark(sender, published, at);
    return look_at_mark(sender, 0, offset).what;
  };
  CHECK(look({10, mark_to_dmb, 0}, 10) == answer::found);
  CHECK(look({10, mark_to_dmb, 0}, 9) == answer::found);
  // Behind what was read already.
  CHECK(look({10, mark_to_dmb, 0}, 11) == answer::invalid);
  CHECK(look({10, mark_clc, 224}, 11) == answer::invalid);
  // Kinds that do not exist, messages that no message can be.
  for (const std::uint32_t kind : {0U, 5U, 0x80000001U, ~0U}) {
    CHECK(look({10, kind, 44}, 10) == answer::invalid);
  }
  CHECK(look({10, mark_clc, 0}, 10) == answer::invalid);
  CHECK(look({10, mark_clc, 1}, 10) == answer::found);
  CHECK(look({10, mark_clc, smcd::longest_clc}, 10) == answer::found);
  CHECK(look({10, mark_clc, smcd::longest_clc + 1}, 10) == answer::invalid);
  CHECK(look({10, mark_clc, ~0U}, 10) == answer::invalid);
  CHECK(look({~std::uint64_t{0}, mark_to_tcp, 0}, 10) == answer::found);
}

TEST_CASE("lanes: a mark that is taken back is nothing, and only that one") {
  record_side sender{};
  std::uint32_t published = 0;
  smcd::publish_mark(sender, published, {5, mark_to_dmb, 0});
  smcd::publish_mark(sender, published, {9, mark_clc, 44});
  smcd::void_mark(sender, published);
  CHECK(look_at_mark(sender, 0, 5).at.kind == mark_to_dmb);
  const auto next = look_at_mark(sender, 1, 9);
  CHECK(next.what == answer::found);
  CHECK(next.at.kind == smcd::mark_void);
  CHECK(next.at.offset == 9);
}

TEST_CASE("lanes: a hostile count is more marks than there can be") {
  record_side sender{};
  for (const std::uint32_t count : {max_marks + 1, 0x80000000U, ~0U}) {
    sender.marks_published = count;
    CHECK(look_at_mark(sender, 0, 0).what == answer::invalid);
    CHECK(look_at_mark(sender, 7, 0).what ==
          (count - 7 > max_marks ? answer::invalid : answer::found));
  }
  // A peer that never took a mark, or says that it took more than there were.
  record_side receiver{};
  for (const std::uint32_t count : {1U, 5U, 0x80000000U, ~0U}) {
    receiver.marks_taken = count;
    const bool may = smcd::can_publish(receiver, 0);
    CHECK(may == (0U - count < max_marks));
  }
}

TEST_CASE("lanes: random words never lead outside the four places") {
  support::random random(4);
  for (int i = 0; i < 50000; ++i) {
    record_side sender{};
    for (mark& one : sender.marks) {
      one = {random.up_to(1000), static_cast<std::uint32_t>(random.below(6)),
             static_cast<std::uint32_t>(random.up_to(3000))};
    }
    sender.marks_published = static_cast<std::uint32_t>(random.below(8));
    const auto taken = static_cast<std::uint32_t>(random.below(8));
    const std::uint64_t offset = random.up_to(1000);
    const auto next = look_at_mark(sender, taken, offset);
    if (next.what != answer::found) continue;
    REQUIRE(next.at.offset >= offset);
    REQUIRE(next.at.kind >= mark_clc);
    REQUIRE(next.at.kind <= smcd::mark_void);
    if (next.at.kind == mark_clc) REQUIRE(next.at.length <= smcd::longest_clc);
  }
}
