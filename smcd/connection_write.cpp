// SPDX-License-Identifier: Apache-2.0
// Bytes: writing over the two lanes.
#include <smcd/connection.hpp>

#include <devices/chaos.hpp>
#include <devices/ticks.hpp>
#include <smcd/error.hpp>

#include <sched.h>

#include <algorithm>
#include <utility>

namespace smcd {
namespace {

// How often a busy sender asks the TCP lane whether the peer still lives.
constexpr std::uint64_t writer_patience = 1000 * dibs::ticks_per_us;

// How soon memory is asked for again that was not to be had.
constexpr std::uint64_t memory_patience = 1'000'000 * dibs::ticks_per_us;

}  // namespace

result<std::size_t> connection::write_some(tcp_lane& tcp, buffers from,
                                           std::uint64_t now) noexcept {
  if (is_young() && enter_young()) {
    const result<std::size_t> sent = tcp.send_parts(from);
    leave_early(0, sent ? *sent : 0);
    return sent;
  }
  if (!is_grown(tcp)) return tcp.send_parts(from);
  direction& to = end()->sending;
  for (;;) {
    if (stage() != end_stage::established) {
      advance(tcp);
    } else if (to.is_returning) [[unlikely]] {
      if (!is_sound(tcp)) return make_error_code(errc::protocol_violation);
    }
    const dibs::lock_guard guard(to.lock);
    if (is_established() && has_peer_left()) [[unlikely]] {
      if (const result<std::size_t> returned = return_bytes(tcp); !returned) return returned;
    }
    // A message of the handshake went out in part: it must be finished first.
    if (end()->is_clc_marked) return dibs::would_block();
    // A signal handler came in the middle of a write to the ring. Its bytes
    // take the other lane; the write that it interrupted starts again.
    if (guard.is_nested() && to.on() == lane::dmb && !switch_sending(lane::tcp)) {
      return dibs::would_block();
    }
    if (to.on() == lane::tcp && !guard.is_nested() && may_return(from, now)) {
      static_cast<void>(switch_sending(lane::dmb));
    }
    const std::uint64_t word = to.word.load(std::memory_order_relaxed);
    if (lane_word::unpack(word).on == lane::dmb && !to.is_shut) {
      const bool is_look_due =
          is_asked_back() || peer_has_closed() || dibs::has_passed(to.looked, writer_patience, now);
      const std::optional<std::uint32_t> room = ring_room();
      if (!room) return make_error_code(errc::bad_cursor);
      if (is_look_due) to.looked = now;
      const std::uint32_t enough = room_for(from);
      dibs::held_bell bell;
      const bool is_out_of_reach = !stack_->signals().can_wake(theirs(), bell);
      if (is_out_of_reach) [[unlikely]]
        to.is_pinned = true;
      const bool is_given_up = (is_out_of_reach || ((is_look_due || *room < enough) &&
                                                    may_give_up(tcp, now, is_look_due, enough))) &&
                               may_leave(tcp);
      const bool is_whim = dibs::chaos::one_in(32) && may_leave(tcp);
      if (!is_given_up && !is_whim) {
        if (*room < enough) {
          // TCP has room for more than the ring, and would see it.
          if (!tcp.may_read(from, enough)) return dibs::system_error(EFAULT);
          to.wanted.store(enough, std::memory_order_relaxed);
          return dibs::would_block();
        }
        const auto most =
            static_cast<std::uint32_t>(std::min<std::size_t>(*room, total_size(from)));
        if (!tcp.may_read(from, most)) return dibs::system_error(EFAULT);
        const std::uint32_t backed = back(lane_word::unpack(word).at, most, now);
        if (backed >= enough) [[likely]] {
          to.wanted.store(1, std::memory_order_relaxed);
          const std::size_t sent = write_ring(from, backed, word, bell);
          // [left] Looked at after the cursor is published: either we see that
          // the reader left, or it left knowing of these bytes.
          if (has_peer_left()) [[unlikely]] {
            static_cast<void>(return_bytes(tcp));
          }
          if (sent > 0 || to.word.load(std::memory_order_relaxed) == word) return sent;
          continue;  // a signal handler took the other lane
        }
        // Whatever the reader does makes no room there.
        if (!may_leave(tcp)) {
          to.wanted.store(direction::no_memory, std::memory_order_relaxed);
          return dibs::would_block();
        }
      }
      // A peer that is gone reads no mark.
      const bool is_told = switch_sending(lane::tcp);
      // [left] As below; but one that closed as well is given nothing back.
      if (has_peer_left() && (is_told || !peer_has_closed())) continue;
    }
    const result<std::size_t> sent = tcp.send_parts(from);
    if (!sent) return sent;
    to.tcp_bytes.fetch_add(*sent, std::memory_order_relaxed);
    count_call();
    return sent;
  }
}

// What a write needs before it begins. A short one goes in whole or not at all:
// others who write to the same socket must not come between its bytes.
std::uint32_t connection::room_for(buffers from) const noexcept {
  const std::size_t size = total_size(from);
  return size > 0 && size <= outbound_.size / 4 ? static_cast<std::uint32_t>(size) : 1;
}

// Free bytes in the peer's ring; nothing if its cursor cannot be.
std::optional<std::uint32_t> connection::ring_room() const noexcept {
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  // [cdc-cons]
  const std::uint64_t consumer = control->consumer.load(std::memory_order_seq_cst);
  const auto used =
      distance(cdc::cursor_of(consumer), cursor_of(end()->sending.now().at), outbound_.size);
  if (!used) return std::nullopt;
  return outbound_.size - *used;
}

// `word`: of before the caller looked at the lane. Writes less, or nothing, if
// that changes meanwhile.
std::size_t connection::write_ring(buffers from, std::uint32_t room, std::uint64_t word,
                                   dibs::held_bell& bell) noexcept {
  direction& to = end()->sending;
  cdc::record* control = outbound_.control.load(std::memory_order_relaxed);
  const std::uint32_t cpu = static_cast<std::uint32_t>(::sched_getcpu()) + 1;
  if (told_cpu_ != cpu) {
    told_cpu_ = cpu;
    control->cpu.store(cpu, std::memory_order_relaxed);
  }
  const std::uint32_t reader =
      inbound_.control.load(std::memory_order_relaxed)->cpu.load(std::memory_order_relaxed);
  const bool is_reader_elsewhere = reader != 0 && reader != cpu;
  unblock();
  const auto most = static_cast<std::uint32_t>(std::min<std::uint64_t>(room, total_size(from)));
  const std::uint32_t size = most > outbound_.size / 4 ? dibs::chaos::at_most(most) : most;
  buffer_walk walk(from);
  std::uint32_t done = 0;
  place at = lane_word::unpack(word).at;
  while (done < size) {
    // A short message comes in one piece even then: programs count on it.
    const std::uint32_t here = std::min(size - done, piece);
    const std::uint32_t n = size < 1024 ? here : dibs::chaos::at_most(here);
    copy_ring<copy_way::into_ring>(outbound_.data(), at.count, walk, n, is_reader_elsewhere);
    at = smcd::advance(at, n, outbound_.size);
    const std::uint64_t next = lane_word{lane::dmb, at}.pack();
    if (!to.word.compare_exchange_strong(word, next, std::memory_order_relaxed)) break;
    word = next;
    done += n;
    dibs::chaos::stall();
    // [cdc-prod] data before the cursor; first access of the sender in [wake].
    control->producer.store(cdc::pack({cursor_of(at), 0, 0}), std::memory_order_seq_cst);
    dibs::chaos::stall();
    stack_->signals().signal(theirs(), bell);
  }
  return done;
}

// Is the DMB lane no longer the way to go? If it is, but has not `enough` bytes
// of room, the reader is asked to tell when there is.
bool connection::may_give_up(tcp_lane& tcp, std::uint64_t now, bool is_look_due,
                             std::uint32_t enough) noexcept {
  direction& to = end()->sending;
  if (is_asked_back()) {
    to.is_pinned = true;
    return true;
  }
  const bool is_room = ring_room().value_or(0) >= enough;
  // What TCP answers to our bytes is the answer then, for good.
  if (is_look_due || !is_room ? is_peer_gone(tcp) : peer_has_closed()) {
    to.is_pinned = true;
    return true;
  }
  if (is_room) return false;
  if (to.full_since == 0) {
    to.full_since = now;
    change_consumer_word([](cdc::cursor_word& word) { word.producer_flags |= cdc::write_blocked; });
  }
  if (ring_room().value_or(0) >= enough) return false;
  return dibs::has_passed(to.full_since, std::uint64_t{patience_us()} * dibs::ticks_per_us, now);
}

bool connection::is_peer_gone(tcp_lane& tcp) const noexcept {
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  const auto flags =
      cdc::unpack(control->consumer.load(std::memory_order_acquire)).connection_flags;
  if ((flags & (cdc::closed | cdc::aborted)) != 0) return true;
  // Once it has ended its direction, TCP tells of its death only whoever writes.
  return (flags & cdc::sending_done) == 0 ? tcp.has_hung_up()
                                          : !stack_->device().query_remote_gid(end()->peer);
}

// Can the reader be told that we leave the ring? Only if it took the marks
// before. It does so while it reads.
bool connection::may_leave(tcp_lane& tcp) const noexcept {
  return can_publish(theirs(), end()->sending.marks.load(std::memory_order_relaxed)) ||
         is_peer_gone(tcp);
}

std::uint32_t connection::patience_us() const noexcept {
  const std::uint32_t longest =
      dibs::chaos::is_on() ? dibs::chaos::below(4000) : stack_->settings().patience_us;
  return end()->peer == end()->self ? std::min(longest, config::own_patience_us) : longest;
}

// On TCP because a ring was full once, or had no memory: back, when the reader
// caught up, and if there will be a mark left to leave the ring again.
bool connection::may_return(buffers from, std::uint64_t now) noexcept {
  const direction& to = end()->sending;
  if (dibs::chaos::one_in(4)) return false;
  const std::uint64_t patience =
      dibs::chaos::is_on() ? std::uint64_t{dibs::chaos::below(4'000'000)} : memory_patience;
  return stage() == end_stage::established && !to.is_pinned && !to.is_shut &&
         ring_room().value_or(0) > outbound_.size / 2 &&
         can_publish(theirs(), to.marks.load(std::memory_order_relaxed) + 1) &&
         (to.short_since == 0 || dibs::has_passed(to.short_since, patience, now)) &&
         back(to.now().at, room_for(from), now) >= room_for(from);
}

// This end does not wait for room any more.
void connection::unblock() noexcept {
  if (std::exchange(end()->sending.full_since, 0) == 0) return;
  change_consumer_word([](cdc::cursor_word& word) {
    word.producer_flags = static_cast<std::uint8_t>(word.producer_flags & ~cdc::write_blocked);
  });
}

bool connection::switch_sending(lane wanted) noexcept {
  const dibs::signal_shield quiet;
  direction& to = end()->sending;
  std::uint32_t published = to.marks.load(std::memory_order_relaxed);
  if (!can_publish(theirs(), published)) return false;
  publish_mark(mine(), published,
               {to.offset(), wanted == lane::dmb ? mark_to_dmb : mark_to_tcp, 0});
  (wanted == lane::dmb ? to.stint_begin : to.stint_end) = to.offset();
  to.marks.store(published, std::memory_order_relaxed);
  to.word.store(lane_word{wanted, to.now().at}.pack(), std::memory_order_relaxed);
  to.wanted.store(1, std::memory_order_relaxed);
  unblock();
  // A reader that sleeps on the other lane must look at the marks.
  stack_->signals().signal(theirs());
  return true;
}

bool connection::has_room(tcp_lane& tcp, std::uint64_t now) noexcept {
  if (is_young()) return true;
  if (stage() != end_stage::established) advance(tcp);
  direction& to = end()->sending;
  const dibs::lock_guard guard(to.lock);
  if (end()->is_clc_marked) return false;
  if (to.on() == lane::tcp) return !is_returning();
  if (to.wanted.load(std::memory_order_relaxed) == direction::no_memory) return may_leave(tcp);
  const std::optional<std::uint32_t> room = ring_room();
  if (!room || *room >= outbound_.size / 4) return true;
  if (may_give_up(tcp, now, true, outbound_.size / 4)) return may_leave(tcp);
  return ring_room() >= outbound_.size / 4;
}

bool connection::room_hint() const noexcept {
  if (sends_on() == lane::tcp || dibs::chaos::one_in(64)) return true;
  const std::uint32_t wanted = end()->sending.wanted.load(std::memory_order_relaxed);
  return ring_room().value_or(wanted) >= wanted;
}

std::size_t connection::unread_by_peer() noexcept {
  if (stage() != end_stage::established) return 0;
  const dibs::lock_guard guard(end()->sending.lock);
  return outbound_.size - ring_room().value_or(outbound_.size);
}

std::int64_t connection::sent_besides() noexcept {
  if (is_young()) return 0;
  const direction& to = end()->sending;
  const dibs::lock_guard guard(end()->sending.lock);
  const bool has_ring = outbound_.control.load(std::memory_order_acquire) != nullptr;
  return to.besides + static_cast<std::int64_t>((has_ring ? to.dmb_bytes() : 0) - to.extra_bytes);
}

// The peer said that it closed the socket. Only then: a dead one says nothing.
bool connection::peer_has_closed() const noexcept {
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  const auto flags =
      cdc::unpack(control->consumer.load(std::memory_order_relaxed)).connection_flags;
  return (flags & (cdc::closed | cdc::aborted)) != 0;
}

bool connection::peer_is_done_sending() const noexcept {
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  // seq_cst: second access of an end that leaves, in [left].
  return control != nullptr &&
         cdc::unpack(control->consumer.load(std::memory_order_seq_cst)).connection_flags != 0;
}

void connection::shutdown_write() noexcept {
  if (is_young()) return stay_on_tcp(decline_code::option_unsupported);
  const dibs::lock_guard guard(end()->sending.lock);
  if (!end()->sending.is_shut) end()->sending.was_peer_first = peer_is_done_sending();
  end()->sending.is_shut = true;
  tell_shut();
}

void connection::shutdown_read() noexcept {
  if (is_young()) return stay_on_tcp(decline_code::option_unsupported);
  const dibs::lock_guard guard(end()->sending.lock);
  end()->receiving.is_shut = true;
  if (end()->sending.is_shut) tell_shut();
}

// TCP resets a connection when bytes come that nobody will read any more. So
// whoever shut both directions is to the peer as one who closed: further bytes
// take the TCP lane. `sending.lock` is held.
void connection::tell_shut() noexcept {
  // Nor may a message of the handshake come any more, and a peer that is further
  // than we are must not write to the DMB.
  if (end()->receiving.is_shut && meets_marks() && stage() != end_stage::established) {
    mine().flags.fetch_or(dibs::flag_refuses | dibs::flag_wants_tcp, std::memory_order_seq_cst);
  }
  const auto flags = static_cast<std::uint8_t>(
      end()->receiving.is_shut ? cdc::sending_done | cdc::closed : +cdc::sending_done);
  change_consumer_word([&](cdc::cursor_word& word) { word.connection_flags |= flags; });
  if (stage() == end_stage::established) stack_->signals().signal(theirs());
}

}  // namespace smcd
