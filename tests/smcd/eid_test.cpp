// SPDX-License-Identifier: Apache-2.0
#include <smcd/eid.hpp>

#include <smcd/error.hpp>

#include <doctest/doctest.h>

#include <string>

using smcd::eid;
using smcd::first_common;
using smcd::make_eid;

static_assert(smcd::default_ueid.text() == "DIBSOCK-DEFAULT-UEID");
static_assert(eid{}.is_none() && eid{}.text().empty() && !smcd::default_ueid.is_none());

TEST_CASE("eid: a well formed name is kept and padded with blanks to 32 characters") {
  const std::string names[] = {
      "A", "9", "MYCLUSTER-01", "A.B.C", "A-", "A.", "0--0", std::string(32, 'Z'),
  };
  for (const std::string& name : names) {
    CAPTURE(name);
    const auto made = make_eid(name);
    REQUIRE(made.has_value());
    CHECK(made->text() == name);
    const std::string padded = name + std::string(32 - name.size(), ' ');
    CHECK(std::string(made->characters.begin(), made->characters.end()) == padded);
    CHECK(*make_eid(padded) == *made);
  }
}

TEST_CASE("eid: anything else is refused") {
  using namespace std::string_literals;
  const std::string texts[] = {
      "",
      " ",
      std::string(32, ' '),
      std::string(33, 'A'),
      " A",
      "A B",
      "-A",
      ".A",
      "a",
      "Ab",
      "A..B",
      "A_B",
      "A\n",
      "A\0"s,
      "\0"s,
      "A\0B"s,
      "A/B",
      "A\x80",
      "[A",
      "A@",
      "A:",
      std::string(32, 'A') + " ",
  };
  for (const std::string& text : texts) {
    CAPTURE(text);
    const auto made = make_eid(text);
    REQUIRE(!made.has_value());
    CHECK(made.error() == smcd::errc::bad_eid);
  }
}

TEST_CASE("eid: every single character is allowed or refused at either place") {
  for (int c = 0; c < 256; ++c) {
    const char character = static_cast<char>(c);
    const bool is_alphanumeric =
        (character >= 'A' && character <= 'Z') || (character >= '0' && character <= '9');
    const bool is_inner = is_alphanumeric || character == '.' || character == '-';
    CAPTURE(c);
    CHECK(smcd::is_ueid(std::string{character, 'A'}) == is_alphanumeric);
    CHECK(smcd::is_ueid(std::string{'A', character, 'A'}) == is_inner);
  }
}

TEST_CASE("eid: equality is that of all 32 characters") {
  const eid one = *make_eid("A");
  CHECK(one == *make_eid("A"));
  CHECK(one != *make_eid("AA"));
  CHECK(one != eid{});
}

TEST_CASE("eid: the first in the proposer's order that exists locally is common") {
  const eid a = *make_eid("A");
  const eid b = *make_eid("B");
  const eid c = *make_eid("C");
  const std::array proposed{a, b, c};
  const std::array<eid, 3> with_none{eid{}, c, eid{}};

  CHECK(first_common(proposed, std::array{c, b}) == &proposed[1]);
  CHECK(first_common(proposed, std::array{c}) == &proposed[2]);
  CHECK(first_common(proposed, std::array{c, b, a}) == &proposed[0]);
  CHECK(first_common(proposed, std::array{*make_eid("D")}) == nullptr);
  CHECK(first_common({}, proposed) == nullptr);
  CHECK(first_common(proposed, {}) == nullptr);
  CHECK(first_common(with_none, std::array<eid, 2>{}) == nullptr);
  CHECK(first_common(with_none, std::array{eid{}, c}) == &with_none[1]);
}
