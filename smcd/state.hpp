// SPDX-License-Identifier: Apache-2.0
#pragma once
// The states of an SMC connection, as `smcss` and `dibsock ss` name them, and
// what leads from one to the next. Connections need no such state to do their
// work: the words that do say more. It is what the tools show.

#include <cstdint>
#include <string_view>

namespace smcd {

enum class state : std::uint8_t {
  init,
  active,
  peer_close_wait_1,    // we ended; the peer has not
  peer_close_wait_2,    // we ended, then the peer ended its direction
  app_close_wait_1,     // the peer ended; our program has not
  app_close_wait_2,     // the peer ended, then we ended our direction
  app_fin_close_wait,   // we ended our direction, then the peer closed
  peer_fin_close_wait,  // the peer ended its direction, then we closed
  peer_abort_wait,      // we aborted
  process_abort,        // the peer aborted; our program has not closed
  closed,
  listen,
};
inline constexpr unsigned state_count = 12;

enum class event : std::uint8_t {
  established,
  close,           // of the socket, by our program
  shutdown_write,  // the same
  peer_done,       // the peer will send no more
  peer_closed,
  peer_aborted,
  group_killed,  // with all connections to that peer
};
inline constexpr unsigned event_count = 7;

// A state and what two of them do not say of themselves.
struct standing {
  state at = state::init;
  bool has_closed = false;       // and told the peer so, not only "done"
  bool peer_has_closed = false;  // or aborted

  friend constexpr bool operator==(standing, standing) = default;
};

// An event that means nothing in a state leaves it as it is.
[[nodiscard]] constexpr standing after(standing now, event what) noexcept {
  const bool had_closed = now.has_closed;
  if (what == event::close) now.has_closed = true;
  if (what == event::peer_closed || what == event::peer_aborted) now.peer_has_closed = true;
  const auto to = [&](state next) {
    now.at = next;
    return now;
  };
  switch (now.at) {
    case state::init:
      if (what == event::established) return to(state::active);
      if (what == event::close) return to(state::closed);
      if (what == event::peer_done || what == event::peer_closed)
        return to(state::app_close_wait_1);
      if (what == event::peer_aborted) return to(state::process_abort);
      break;
    case state::listen:
      if (what == event::close) return to(state::closed);
      break;
    case state::active:
      if (what == event::close || what == event::shutdown_write)
        return to(state::peer_close_wait_1);
      if (what == event::peer_done || what == event::peer_closed)
        return to(state::app_close_wait_1);
      if (what == event::peer_aborted) return to(state::process_abort);
      if (what == event::group_killed) return to(state::closed);
      break;
    case state::peer_close_wait_1:
    case state::peer_close_wait_2:
      if (what == event::peer_done) return to(state::peer_close_wait_2);
      if (what == event::peer_closed) {
        return to(had_closed ? state::closed : state::app_fin_close_wait);
      }
      if (what == event::peer_aborted) return to(had_closed ? state::closed : state::process_abort);
      if (what == event::group_killed) return to(state::closed);
      break;
    case state::app_close_wait_1:
      if (what == event::shutdown_write) return to(state::app_close_wait_2);
      if (what == event::peer_aborted) return to(state::process_abort);
      [[fallthrough]];
    case state::app_close_wait_2:
      if (what == event::close) {
        return to(now.peer_has_closed ? state::closed : state::peer_fin_close_wait);
      }
      if (what == event::peer_aborted || what == event::group_killed) return to(state::closed);
      break;
    case state::app_fin_close_wait:
      if (what == event::peer_aborted) return to(state::process_abort);
      if (what == event::close || what == event::group_killed) return to(state::closed);
      break;
    case state::peer_fin_close_wait:
      if (what == event::peer_closed || what == event::peer_aborted ||
          what == event::group_killed) {
        return to(state::closed);
      }
      break;
    case state::peer_abort_wait:
      if (what == event::close || what == event::peer_aborted) return to(state::closed);
      break;
    case state::process_abort:
      if (what == event::close || what == event::group_killed) return to(state::closed);
      break;
    case state::closed: break;
  }
  return now;
}

// An end that its program still holds, by what is known of both ends.
struct life {
  bool is_decided = false;      // SMC-D or TCP: the handshake is over
  bool is_shut = false;         // shutdown(WR)...
  bool was_peer_first = false;  // ...after the peer had ended its own direction
  bool peer_is_done = false;
  bool peer_is_gone = false;  // closed the socket, or died
};
[[nodiscard]] constexpr state state_of(const life& end) noexcept {
  standing now;
  if (end.is_decided) now = after(now, event::established);
  if (end.is_shut && !end.was_peer_first) now = after(now, event::shutdown_write);
  if (end.peer_is_done || (end.is_shut && end.was_peer_first)) now = after(now, event::peer_done);
  if (end.is_shut && end.was_peer_first) now = after(now, event::shutdown_write);
  if (end.peer_is_gone) now = after(now, event::peer_closed);
  return now.at;
}

[[nodiscard]] constexpr std::string_view to_text(state at) noexcept {
  switch (at) {
    case state::init: return "INIT";
    case state::active: return "ACTIVE";
    case state::peer_close_wait_1: return "PEERCLOSEWAIT1";
    case state::peer_close_wait_2: return "PEERCLOSEWAIT2";
    case state::app_close_wait_1: return "APPCLOSEWAIT1";
    case state::app_close_wait_2: return "APPCLOSEWAIT2";
    case state::app_fin_close_wait: return "APPFINCLOSEWAIT";
    case state::peer_fin_close_wait: return "PEERFINCLOSEWAIT";
    case state::peer_abort_wait: return "PEERABORTWAIT";
    case state::process_abort: return "PROCESSABORT";
    case state::closed: return "CLOSED";
    case state::listen: return "LISTEN";
  }
  return "UNKNOWN";
}

}  // namespace smcd
