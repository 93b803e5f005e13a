// SPDX-License-Identifier: Apache-2.0
#include <smcd/state.hpp>

#include <doctest/doctest.h>

#include <initializer_list>

using smcd::after;
using smcd::event;
using smcd::standing;
using smcd::state;
using smcd::state_of;

namespace {

constexpr state init = state::init;
constexpr state active = state::active;
constexpr state peer1 = state::peer_close_wait_1;
constexpr state peer2 = state::peer_close_wait_2;
constexpr state app1 = state::app_close_wait_1;
constexpr state app2 = state::app_close_wait_2;
constexpr state app_fin = state::app_fin_close_wait;
constexpr state peer_fin = state::peer_fin_close_wait;
constexpr state abort_wait = state::peer_abort_wait;
constexpr state aborted = state::process_abort;
constexpr state closed = state::closed;
constexpr state listens = state::listen;

// The next state for each event, in the order of the enumeration.
struct row {
  standing from;
  state established, close, shutdown_write, done, peer_closed, peer_aborted, killed;
};

// clang-format off
constexpr row table[] = {
    // from                   established close      shutdown    done        closed      aborted     killed
    {{init, false, false},       active,     closed,    init,       app1,       app1,       aborted,    init},
    {{listens, false, false},    listens,    closed,    listens,    listens,    listens,    listens,    listens},
    {{active, false, false},     active,     peer1,     peer1,      app1,       app1,       aborted,    closed},
    // Only "done" was sent, or "closed" as well.
    {{peer1, false, false},      peer1,      peer1,     peer1,      peer2,      app_fin,    aborted,    closed},
    {{peer1, true, false},       peer1,      peer1,     peer1,      peer2,      closed,     closed,     closed},
    {{peer2, false, false},      peer2,      peer2,     peer2,      peer2,      app_fin,    aborted,    closed},
    {{peer2, true, false},       peer2,      peer2,     peer2,      peer2,      closed,     closed,     closed},
    // The peer only said "done", or it has closed.
    {{app1, false, false},       app1,       peer_fin,  app2,       app1,       app1,       aborted,    closed},
    {{app1, false, true},        app1,       closed,    app2,       app1,       app1,       aborted,    closed},
    {{app2, false, false},       app2,       peer_fin,  app2,       app2,       app2,       closed,     closed},
    {{app2, false, true},        app2,       closed,    app2,       app2,       app2,       closed,     closed},
    {{app_fin, false, true},     app_fin,    closed,    app_fin,    app_fin,    app_fin,    aborted,    closed},
    {{peer_fin, true, false},    peer_fin,   peer_fin,  peer_fin,   peer_fin,   closed,     closed,     closed},
    {{abort_wait, false, false}, abort_wait, closed,    abort_wait, abort_wait, abort_wait, closed,     abort_wait},
    {{aborted, false, true},     aborted,    closed,    aborted,    aborted,    aborted,    aborted,    closed},
    {{closed, true, true},       closed,     closed,    closed,     closed,     closed,     closed,     closed},
};
// clang-format on

}  // namespace

TEST_CASE("state: every event in every state") {
  for (const row& each : table) {
    CAPTURE(smcd::to_text(each.from.at));
    CAPTURE(each.from.has_closed);
    CAPTURE(each.from.peer_has_closed);
    CHECK(after(each.from, event::established).at == each.established);
    CHECK(after(each.from, event::close).at == each.close);
    CHECK(after(each.from, event::shutdown_write).at == each.shutdown_write);
    CHECK(after(each.from, event::peer_done).at == each.done);
    CHECK(after(each.from, event::peer_closed).at == each.peer_closed);
    CHECK(after(each.from, event::peer_aborted).at == each.peer_aborted);
    CHECK(after(each.from, event::group_killed).at == each.killed);
  }
}

TEST_CASE("state: close and the peer's close are remembered, whatever the state") {
  for (unsigned at = 0; at < smcd::state_count; ++at) {
    for (unsigned what = 0; what < smcd::event_count; ++what) {
      const auto kind = static_cast<event>(what);
      const standing next = after({static_cast<state>(at), false, false}, kind);
      CHECK(next.has_closed == (kind == event::close));
      CHECK(next.peer_has_closed == (kind == event::peer_closed || kind == event::peer_aborted));
      CHECK(after({static_cast<state>(at), true, true}, kind).has_closed);
      CHECK(after({static_cast<state>(at), true, true}, kind).peer_has_closed);
    }
  }
}

TEST_CASE("state: whole lives end closed") {
  const auto live = [](std::initializer_list<event> events) {
    standing now;
    for (const event what : events) now = after(now, what);
    return now.at;
  };
  using enum event;
  CHECK(live({established, close, peer_closed}) == closed);
  CHECK(live({established, shutdown_write, close, peer_closed}) == closed);
  CHECK(live({established, shutdown_write, peer_done, peer_closed, close}) == closed);
  CHECK(live({established, peer_closed, close}) == closed);
  CHECK(live({established, peer_done, shutdown_write, peer_closed, close}) == closed);
  CHECK(live({established, peer_done, shutdown_write, close, peer_closed}) == closed);
  CHECK(live({established, peer_aborted, close}) == closed);
  CHECK(live({peer_done, close, peer_closed}) == closed);
}

TEST_CASE("state: what is known of both ends gives the state") {
  CHECK(state_of({}) == init);
  CHECK(state_of({.is_shut = true}) == init);
  CHECK(state_of({.peer_is_gone = true}) == app1);
  CHECK(state_of({.is_decided = true}) == active);
  CHECK(state_of({.is_decided = true, .is_shut = true}) == peer1);
  CHECK(state_of({.is_decided = true, .is_shut = true, .peer_is_done = true}) == peer2);
  CHECK(state_of({.is_decided = true, .is_shut = true, .peer_is_gone = true}) == app_fin);
  CHECK(state_of({.is_decided = true, .peer_is_done = true}) == app1);
  CHECK(state_of({.is_decided = true, .peer_is_gone = true}) == app1);
  CHECK(state_of({.is_decided = true, .is_shut = true, .was_peer_first = true}) == app2);
  CHECK(state_of({.is_decided = true,
                  .is_shut = true,
                  .was_peer_first = true,
                  .peer_is_done = true,
                  .peer_is_gone = true}) == app2);
}

TEST_CASE("state: names are those of smcss") {
  CHECK(smcd::to_text(init) == "INIT");
  CHECK(smcd::to_text(active) == "ACTIVE");
  CHECK(smcd::to_text(peer1) == "PEERCLOSEWAIT1");
  CHECK(smcd::to_text(peer2) == "PEERCLOSEWAIT2");
  CHECK(smcd::to_text(app1) == "APPCLOSEWAIT1");
  CHECK(smcd::to_text(app2) == "APPCLOSEWAIT2");
  CHECK(smcd::to_text(app_fin) == "APPFINCLOSEWAIT");
  CHECK(smcd::to_text(peer_fin) == "PEERFINCLOSEWAIT");
  CHECK(smcd::to_text(abort_wait) == "PEERABORTWAIT");
  CHECK(smcd::to_text(aborted) == "PROCESSABORT");
  CHECK(smcd::to_text(closed) == "CLOSED");
  CHECK(smcd::to_text(listens) == "LISTEN");
  CHECK(smcd::to_text(static_cast<state>(99)) == "UNKNOWN");
}
