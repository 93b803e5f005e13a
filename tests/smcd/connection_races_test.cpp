// SPDX-License-Identifier: Apache-2.0
// What the peer does in the very middle of a call, between two looks of it.
#include <smcd/connection.hpp>

#include <support/stream.hpp>
#include <support/two_ends.hpp>

#include <doctest/doctest.h>

#include <functional>

using smcd::end_stage;
using smcd::lane;
using support::end_point;
using support::fake_tcp;
using support::two_ends;

namespace {

// Runs once, when that call of the lane is made for the nth time from now.
void at_call(end_point& end, fake_tcp::call wanted, int n, std::function<void()> what) {
  end.tcp.before = [=, &end, left = n](fake_tcp::call made) mutable {
    if (made != wanted || --left > 0) return;
    end.tcp.before = [](fake_tcp::call) {};
    what();
  };
}

// The client is established and the server about to be.
void confirm(two_ends& ends) {
  REQUIRE(ends.client.write("?").value() == 1);
  REQUIRE(ends.server.read_text() == "?");
  for (int i = 0; i < 10 && !ends.client.connection.is_established(); ++i) {
    ends.client.connection.advance(ends.client.tcp);
    if (!ends.client.connection.is_established()) ends.server.connection.advance(ends.server.tcp);
  }
  REQUIRE(ends.client.connection.is_established());
  REQUIRE(ends.server.stage() == end_stage::handshake);
}

}  // namespace

TEST_CASE("races: the peer switches, writes and ends between the marks and the end of TCP") {
  for (const bool is_reset : {false, true}) {
    for (const bool is_peek : {false, true}) {
      two_ends ends;
      confirm(ends);
      at_call(ends.client, fake_tcp::call::peek, 1, [&] {
        CHECK(ends.server.write("last words").value() == 10);
        CHECK(ends.server.connection.sends_on() == lane::dmb);
        if (is_reset) {
          ends.server.tcp.reset();
        } else {
          ends.server.tcp.close();
        }
      });
      CHECK(ends.client.read_text(100, is_peek) == "last words");
      if (is_peek) CHECK(ends.client.read_text() == "last words");
      const std::string last = is_reset ? "(Connection reset by peer)" : "(end)";
      CHECK(ends.client.read_text() == last);
    }
  }
}

TEST_CASE("races: the last message of a peer that ended is taken while another thread reads") {
  two_ends ends;
  ends.client.tcp.hold_back();
  REQUIRE(ends.client.write("?").value() == 1);
  ends.server.tcp.hurry();
  REQUIRE(ends.server.read_text() == "?");
  for (int i = 0; i < 10 && ends.server.stage() != end_stage::handshake; ++i) {
    ends.client.connection.advance(ends.client.tcp);
    ends.server.tcp.hurry();
    ends.server.connection.advance(ends.server.tcp);
  }
  ends.client.tcp.hold_back();
  ends.client.connection.advance(ends.client.tcp);
  REQUIRE(ends.client.connection.is_established());
  REQUIRE(ends.server.stage() == end_stage::handshake);
  at_call(ends.server, fake_tcp::call::has_hung_up, 1, [&] {
    CHECK(ends.client.write("last words").value() == 10);
    ends.client.tcp.close();
    ends.server.tcp.hurry();
    // As another thread would.
    at_call(ends.server, fake_tcp::call::unread, 1,
            [&] { ends.server.connection.advance(ends.server.tcp); });
  });
  CHECK(ends.server.read_text() == "(wait)");
  CHECK(ends.server.read_text() == "last words");
  CHECK(ends.server.read_text() == "(end)");
}
