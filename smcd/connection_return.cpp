// SPDX-License-Identifier: Apache-2.0
// The way back: an end gives its connection to the kernel's TCP, because
// somebody will use the socket who knows nothing of lanes. What its ring holds
// unread is sent once more, over TCP, by the peer, unless this end reads it
// before; see docs/protocol.md.
#include <smcd/connection.hpp>

#include <devices/ticks.hpp>
#include <smcd/error.hpp>

#include <sched.h>

#include <algorithm>

namespace smcd {
namespace {

// Looks for CLC bytes that are waited for, before the CPU is left to others.
constexpr int clc_spins = 1000;

// Of record_side::left_at.
constexpr std::uint64_t is_claimed = 1;

}  // namespace

// ---- the end that leaves -----------------------------------------------------

bool connection::give_to_kernel(tcp_lane& tcp, after_leaving then) noexcept {
  if (stage() == end_stage::joined || stage() == end_stage::handshake) {
    mine().flags.fetch_or(dibs::flag_refuses, std::memory_order_seq_cst);
    await_clc(tcp, [&]() noexcept {
      advance(tcp);
      const end_stage at = stage();
      const bool is_talking = at == end_stage::joined || at == end_stage::handshake;
      return !is_talking || (!is_clc_ahead() && !end()->is_clc_marked) || tcp.has_hung_up();
    });
  }
  if (stage() == end_stage::established) return leave_lanes(tcp, then);
  if (end_state* grown = end()) {
    // A message of ours that went out in part cannot be taken back.
    const dibs::lock_guard guard(grown->talk_lock);
    if (guard.is_nested() || grown->is_clc_marked) return false;
  }
  stay_on_tcp(decline_code::option_unsupported);
  if (stage() == end_stage::handshake) return false;
  return is_plain() || !is_clc_ahead();
}

// Calls until it is answered with true, or it has been too long.
template <class IsOver>
void connection::await_clc(tcp_lane& tcp, IsOver is_over) noexcept {
  const std::uint64_t deadline =
      dibs::ticks() + std::uint64_t{stack_->settings().clc_patience_us} * dibs::ticks_per_us;
  for (int spins = 0; !is_over() && dibs::ticks() < deadline; ++spins) {
    if (spins % clc_spins == clc_spins - 1) tcp.hurry();
    spins < clc_spins ? dibs::relax() : static_cast<void>(::sched_yield());
  }
}

// [marks] A message that was announced before the peer saw our refusal is on
// its way, and nobody must find it on the TCP lane.
void connection::take_last_clc(tcp_lane& tcp) noexcept {
  await_clc(tcp, [&]() noexcept {
    return bytes_before_mark() != 0 || !is_clc_ahead() || discard_clc(tcp) || tcp.has_hung_up();
  });
}

void connection::settle_shutdown(tcp_lane& tcp) noexcept {
  if (is_young() || !meets_marks() || !end()->sending.is_shut) return;
  if (is_established()) {
    // [left] Either the leaver saw the end of the stream, or we see that it left.
    await_clc(tcp, [&]() noexcept {
      return !has_peer_left() || !attend_leaver(tcp) || !is_returning() || tcp.has_hung_up();
    });
    return;
  }
  if (!end()->receiving.is_shut) return;
  await_clc(tcp, [&]() noexcept { return has_clc_arrived(tcp) || tcp.has_hung_up(); });
}

// The message that was announced last, and all before it; true without one.
bool connection::has_clc_arrived(tcp_lane& tcp) noexcept {
  direction& from = end()->receiving;
  const dibs::lock_guard guard(from.lock);
  const std::uint64_t arrived = from.offset() + tcp.unread();
  const next_mark next = mark_ahead();
  return next.what != next_mark::answer::found || next.at.kind != mark_clc ||
         arrived >= next.at.offset + next.at.length;
}

bool connection::is_clc_ahead() noexcept {
  if (!meets_marks()) return false;
  direction& from = end()->receiving;
  const dibs::lock_guard guard(from.lock);
  const next_mark next = mark_ahead();
  return next.what == next_mark::answer::invalid ||
         (next.what == next_mark::answer::found && next.at.kind == mark_clc);
}

bool connection::leave_lanes(tcp_lane& tcp, after_leaving then) noexcept {
  const dibs::signal_shield quiet;
  direction& to = end()->sending;
  direction& from = end()->receiving;
  const dibs::lock_guard sending(to.lock);
  const dibs::lock_guard receiving(from.lock);
  if (sending.is_nested() || receiving.is_nested()) return false;
  if (!is_draining()) {
    to.is_pinned = true;
    if (has_peer_left() && !return_bytes(tcp)) return false;
    if (to.on() == lane::dmb && !switch_sending(lane::tcp)) return false;
    turn found = turn::go_on;
    while (found == turn::go_on) found = follow_marks();
    if (found != turn::nothing || !can_return(tcp)) return false;
    mine().left_at.store(from.offset() << 1, std::memory_order_relaxed);
    // [left] The offset before the flag; then whatever the peer has in the ring,
    // or puts there while it does not see the flag, is on it to send again.
    mine().flags.fetch_or(dibs::flag_left, std::memory_order_seq_cst);
    from.is_draining = true;
    // Two that leave at once: who comes second is not served any more. And the
    // peer may have left its ring for TCP before it saw the flag.
    if (has_peer_left() && (!return_bytes(tcp) || ring_used() != 0)) return false;
    if (!can_return(tcp)) return false;
    end()->local_reason = decline_code::option_unsupported;
    stack_->signals().signal(theirs());
  }
  if (then == after_leaving::is_over || ring_used() == 0) finish_leaving();
  return true;
}

// What the ring holds is read here as long as the peer has not begun to send it
// again. `receiving.lock` is held.
void connection::finish_leaving() noexcept {
  direction& from = end()->receiving;
  from.word.store(lane_word{lane::tcp, from.now().at}.pack(), std::memory_order_relaxed);
  from.is_draining = false;
  end()->stage.store(end_stage::plain, std::memory_order_release);
  stack_->signals().signal(mine());  // waiters of ours look at TCP alone now
}

// Every look of an end that left begins with this.
void connection::drain(tcp_lane& tcp) noexcept {
  direction& from = end()->receiving;
  const dibs::signal_shield quiet;
  const dibs::lock_guard guard(from.lock);
  if (guard.is_nested() || !is_draining()) return;
  std::uint64_t written = 0;
  std::uint64_t read = 0;
  const bool is_counted = from.on() != lane::tcp || tcp.counters(written, read);
  if (!is_counted || ring_used() == 0 || (mine().left_at & is_claimed) != 0) {
    return finish_leaving();
  }
  // Others may have read of what stands on TCP before the ring: they are to be
  // counted, and nothing that was sent again is among it.
  if (from.on() == lane::tcp) from.tcp_bytes = read - from.extra_bytes;
}

// Are so many bytes of the ring ours to read? Then the peer will not send them.
bool connection::take_back(std::uint32_t size) noexcept {
  const std::uint64_t offset = end()->receiving.offset();
  std::uint64_t left_at = mine().left_at.load(std::memory_order_relaxed);
  while ((left_at & is_claimed) == 0) {
    // [left]
    if (mine().left_at.compare_exchange_weak(left_at, (offset + size) << 1)) return true;
  }
  finish_leaving();
  return false;
}

// Bytes in the ring can come over TCP if nothing stands there that comes after
// them: neither bytes nor the end of the stream.
bool connection::can_return(tcp_lane& tcp) noexcept {
  if (ring_used() == 0) return true;
  if (peer_is_done_sending() || tcp.has_hung_up()) return false;
  const direction& from = end()->receiving;
  std::uint32_t taken = from.marks.load(std::memory_order_relaxed);
  for (;; ++taken) {
    const next_mark next = look_at_mark(theirs(), taken, from.offset());
    if (next.what == next_mark::answer::none) return true;
    if (next.what == next_mark::answer::invalid || next.at.kind == mark_to_tcp) return false;
  }
}

// ---- the end that stays ------------------------------------------------------

bool connection::attend_leaver(tcp_lane& tcp) noexcept {
  const dibs::signal_shield quiet;
  bool is_done = false;
  {
    const dibs::lock_guard sending(end()->sending.lock);
    if (sending.is_nested() || !has_peer_left()) return true;
    const result<std::size_t> returned = return_bytes(tcp);
    if (!returned && returned.error() == errc::protocol_violation) return false;
    // Another error is TCP's, which will tell of it.
    is_done = returned || !dibs::is_would_block(returned.error());
  }
  const dibs::lock_guard receiving(end()->receiving.lock);
  while (follow_marks() == turn::go_on) {
  }
  // What TCP refuses it will tell of, and nobody comes back to that.
  if (is_done && is_returning()) end()->sending.returning = 0;
  return true;
}

// The leaver has everything, and its last mark is behind us. It may be another
// program by now that speaks SMC-D as well: then they meet like two that have
// never met, by the kernel's count of bytes. The memory of before stays until the
// next handshake, because others may be looking at it.
void connection::begin_anew(tcp_lane& tcp) noexcept {
  const dibs::signal_shield quiet;
  direction& to = end()->sending;
  direction& from = end()->receiving;
  const dibs::lock_guard talking(end()->talk_lock);
  const dibs::lock_guard sending(to.lock);
  const dibs::lock_guard receiving(from.lock);
  if (talking.is_nested() || sending.is_nested() || receiving.is_nested()) return;
  if (!is_established() || !to.is_returning || is_returning() || from.on() != lane::tcp ||
      theirs().marks_published.load(std::memory_order_acquire) !=
          from.marks.load(std::memory_order_relaxed)) {
    return;
  }
  std::uint64_t written = 0;
  std::uint64_t read = 0;
  const bool is_whole = tcp.counters(written, read) && written == to.tcp_bytes + to.extra_bytes &&
                        read == from.tcp_bytes + from.extra_bytes;
  stack_->signals().signal(mine());  // waiters of ours look at TCP alone now
  if (!is_whole || asks_back() || to.is_shut || from.is_shut || end()->was_shared ||
      end()->self != stack_->self().gid) {
    end()->local_reason = decline_code::peer_declined;
    return end()->stage.store(end_stage::plain, std::memory_order_release);
  }
  end()->stage.store(end_stage::candidate, std::memory_order_release);
  to.begin_anew(written);
  from.begin_anew(read);
  inbound_.control.store(nullptr, std::memory_order_relaxed);
  outbound_.control.store(nullptr, std::memory_order_relaxed);
  stack_->meeting().release(record_, end()->role == handshake_role::client);
  record_.generation = dibs::record_ref::none;
  end()->is_clc_marked = end()->peer_is_done = false;
  end()->tries = 0;
  end()->look_at = 0;
  end()->calls = stack_->settings().switch_calls;
}

// How many bytes at the end of the ring the reader did not take before it left.
// Nothing if bytes that come after them are on the TCP lane already.
std::optional<std::uint32_t> connection::unread_by_leaver() noexcept {
  const direction& to = end()->sending;
  // [left] From here on they are ours to send, and no more the leaver's to read.
  const std::uint64_t left_at = theirs().left_at.fetch_or(is_claimed) >> 1;
  const std::uint64_t sent = to.offset();
  const bool is_in_ring = to.on() == lane::dmb;
  if (left_at > sent || (is_in_ring && left_at < to.stint_end)) return std::nullopt;
  if (!is_in_ring && left_at >= to.stint_end) return 0;
  if (!is_in_ring && sent != to.stint_end) return std::nullopt;
  const std::uint64_t unread = sent - std::max(left_at, to.stint_begin);
  if (unread > outbound_.size) return std::nullopt;
  return static_cast<std::uint32_t>(unread);
}

// True once all of them are on the TCP lane. Otherwise: wait for room there.
result<std::size_t> connection::return_bytes(tcp_lane& tcp) noexcept {
  direction& to = end()->sending;
  // It reads no more, and would be reset by what it is sent.
  if (!to.is_returning && peer_has_closed()) return std::size_t{0};
  if (!to.is_returning) {
    const std::optional<std::uint32_t> unread = unread_by_leaver();
    if (!unread) return make_error_code(errc::protocol_violation);
    to.returning.store(*unread, std::memory_order_relaxed);
    to.is_pinned = true;
    to.is_returning = true;
    to.word.store(lane_word{lane::tcp, to.now().at}.pack(), std::memory_order_relaxed);
    unblock();
    stack_->signals().signal(theirs());  // who waits for the ring waits for TCP now
  }
  const std::span<std::byte> ring = outbound_.size > 0 ? outbound_.data() : std::span<std::byte>();
  for (std::uint32_t left = to.returning.load(std::memory_order_relaxed); left > 0;) {
    const std::uint32_t end_at = to.now().at.count;
    const std::uint32_t at = end_at >= left ? end_at - left : end_at + outbound_.size - left;
    const result<std::size_t> sent =
        tcp.send(ring.subspan(at, std::min(left, outbound_.size - at)));
    if (!sent) return sent;
    left -= static_cast<std::uint32_t>(*sent);
    to.extra_bytes += *sent;
    to.returning.store(left, std::memory_order_relaxed);
  }
  return std::size_t{0};
}

}  // namespace smcd
