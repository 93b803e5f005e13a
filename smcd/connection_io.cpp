// SPDX-License-Identifier: Apache-2.0
// Bytes: reading and writing over the two lanes.
#include <smcd/connection.hpp>

#include <devices/ticks.hpp>
#include <smcd/error.hpp>

#include <sched.h>

#include <algorithm>
#include <utility>

namespace smcd {
namespace {

// How often an empty ring or a busy sender asks the TCP lane whether the peer
// still lives, in ticks.
constexpr std::uint64_t reader_patience = 20 * dibs::ticks_per_us;
constexpr std::uint64_t writer_patience = 1000 * dibs::ticks_per_us;

// Long copies are published piece by piece: the other end works on one piece
// while we copy the next, and both find it in their caches.
constexpr std::uint32_t piece = 32 * 1024;

// Two CPUs' counters, or two threads, may disagree on what came first.
bool has_passed(std::uint64_t since, std::uint64_t patience, std::uint64_t now) noexcept {
  return static_cast<std::int64_t>(now - since) > static_cast<std::int64_t>(patience);
}

// The end of the stream, or an error.
bool is_over(const result<std::size_t>& got) noexcept {
  return got ? *got == 0 : !dibs::is_would_block(got.error());
}

cursor cursor_of(std::uint64_t packed) noexcept { return cdc::unpack(packed).at; }

}  // namespace

void connection::ring_view::set(std::span<std::byte> dmb) noexcept {
  size = static_cast<std::uint32_t>(dmb.size() - sizeof(cdc::record));
  control.store(reinterpret_cast<cdc::record*>(dmb.data()), std::memory_order_release);
}

// ---- reading ---------------------------------------------------------------

result<std::size_t> connection::read_some(tcp_lane& tcp, buffers to, bool is_peek,
                                          std::uint64_t now) noexcept {
  direction& from = end_->receiving;
  for (;;) {
    if (stage() != end_stage::established) advance(tcp);
    turn found = turn::nothing;
    {
      const dibs::lock_guard guard(from.lock);
      const std::uint64_t word = from.word.load(std::memory_order_relaxed);
      found = follow_marks();
      if (found == turn::go_on) continue;
      if (found == turn::broken) return make_error_code(errc::protocol_violation);
      if (found == turn::nothing) {
        if (lane_word::unpack(word).on == lane::tcp) {
          const result<std::size_t> got = read_tcp(tcp, to, is_peek, word);
          if (is_over(got)) {
            // Unless the peer went to the DMB after we looked at the marks.
            if (follow_marks() == turn::nothing) return tell(got);
            keep(got);
            continue;
          }
          if (got && !is_peek) count_call();
          if (!got && from.word.load(std::memory_order_relaxed) != word) continue;
          return got;
        }
        const result<std::size_t> got = read_ring(to, is_peek, word);
        if (!got || *got > 0) return got;
        // A signal handler read what we were about to.
        if (from.word.load(std::memory_order_relaxed) != word) continue;
        if (!has_passed(from.looked, reader_patience, now)) return dibs::would_block();
        from.looked = now;
        // The ring is empty: ask the TCP lane, then look at the ring again,
        // because whatever ended the connection came after the last byte.
        std::byte one{};
        const result<std::size_t> health = tcp.peek({&one, 1});
        if (!health && dibs::is_would_block(health.error())) return health;
        from.looked = 0;  // an end is told again without waiting
        if (ring_used().value_or(1) > 0 || follow_marks() != turn::nothing) {
          keep(health);
          continue;
        }
        if (health && *health > 0) {
          // Bytes past us, from a call of the peer's that nobody could see.
          return read_tcp(tcp, to, is_peek, word);
        }
        return tell(health);
      }
    }
    // A CLC message stands here, perhaps not all of it yet; or the end of the
    // handshake is awaited.
    const std::uint32_t taken = from.marks.load(std::memory_order_relaxed);
    const end_stage before = stage();
    advance(tcp);
    if (from.marks.load(std::memory_order_relaxed) != taken || stage() != before) continue;
    if (is_cut_off(tcp)) return std::size_t{0};
    return dibs::would_block();
  }
}

// The kernel tells of an error once. Bytes of the DMB lane come before it.
void connection::keep(const result<std::size_t>& over) noexcept {
  if (!over) untold_error_ = over.error().value();
}

result<std::size_t> connection::tell(const result<std::size_t>& over) noexcept {
  const int kept = std::exchange(untold_error_, 0);
  return over && kept != 0 ? result<std::size_t>(dibs::system_error(kept)) : over;
}

// Carries out marks at the reader's offset, as far as that takes no CLC.
connection::turn connection::follow_marks() noexcept {
  direction& from = end_->receiving;
  if (!meets_marks()) return turn::nothing;
  const auto look = [&]() noexcept {
    return look_at_mark(theirs(), from.marks.load(std::memory_order_relaxed), from.offset());
  };
  if (const next_mark ahead = look();
      ahead.what == next_mark::answer::none ||
      (ahead.what == next_mark::answer::found && ahead.at.offset > from.offset())) {
    return turn::nothing;
  }
  // A signal handler may have been here between our looks at it.
  const dibs::signal_shield quiet;
  const next_mark next = look();
  if (next.what == next_mark::answer::none) return turn::nothing;
  if (next.what == next_mark::answer::invalid) return turn::broken;
  if (next.at.offset > from.offset()) return turn::nothing;
  // After the handshake nobody takes such a message, and all behind it would wait.
  if (next.at.kind == mark_clc) {
    return stage() == end_stage::established ? turn::broken : turn::clc;
  }
  lane_word now = from.now();
  if (next.at.kind == mark_to_dmb) {
    // Before our end of the handshake is over the DMB may still be dropped.
    const end_stage at = stage();
    if (at == end_stage::handshake) return turn::clc;
    if (at != end_stage::established) return turn::broken;
    now.on = lane::dmb;
  } else if (next.at.kind == mark_to_tcp) {
    now.on = lane::tcp;
  }
  from.word.store(now.pack(), std::memory_order_relaxed);
  std::uint32_t taken = from.marks.load(std::memory_order_relaxed);
  take_mark(mine(), taken);
  from.marks.store(taken, std::memory_order_relaxed);
  return turn::go_on;
}

// The peer ended in the middle of the CLC message that stands here.
bool connection::is_cut_off(tcp_lane& tcp) noexcept {
  if (!tcp.has_hung_up()) return false;
  const direction& from = end_->receiving;
  const next_mark next =
      look_at_mark(theirs(), from.marks.load(std::memory_order_relaxed), from.offset());
  return next.what != next_mark::answer::found || tcp.unread() < next.at.length;
}

std::uint64_t connection::bytes_before_mark() const noexcept {
  if (!meets_marks()) return ~std::uint64_t{0};
  const direction& from = end_->receiving;
  const std::uint64_t offset = from.offset();
  const next_mark next = look_at_mark(theirs(), from.marks.load(std::memory_order_relaxed), offset);
  return next.what == next_mark::answer::found ? next.at.offset - offset : ~std::uint64_t{0};
}

// Bytes in our ring; nothing if the peer's cursor cannot be.
std::optional<std::uint32_t> connection::ring_used() const noexcept {
  const cdc::record* control = inbound_.control.load(std::memory_order_acquire);
  const direction& from = end_->receiving;
  for (;;) {
    const std::uint64_t word = from.word.load(std::memory_order_relaxed);
    // [cdc-prod]; seq_cst: after arming, this is the second access of [wake].
    const std::uint64_t producer = control->producer.load(std::memory_order_seq_cst);
    const auto used =
        distance(cursor_of(lane_word::unpack(word).at), cursor_of(producer), inbound_.size);
    // Unless a signal handler read meanwhile, no answer is the peer's doing.
    if (used || from.word.load(std::memory_order_relaxed) == word) return used;
  }
}

// `word`: of before the caller looked at the marks. Gives less than there is,
// or nothing, if that changes meanwhile.
result<std::size_t> connection::read_ring(buffers to, bool is_peek, std::uint64_t word) noexcept {
  direction& from = end_->receiving;
  const std::optional<std::uint32_t> used = ring_used();
  if (!used) return make_error_code(errc::bad_cursor);
  // Bytes behind the next mark are in the ring already, but not yet due.
  const std::uint64_t due = std::min<std::uint64_t>(*used, bytes_before_mark());
  const auto size = static_cast<std::uint32_t>(std::min<std::uint64_t>(due, total_size(to)));
  buffer_walk walk(to);
  std::uint32_t done = 0;
  place at = lane_word::unpack(word).at;
  while (done < size) {
    const std::uint32_t n = std::min(size - done, piece);
    copy_ring<copy_way::out_of_ring>(inbound_.data(), at.count, walk, n);
    at = smcd::advance(at, n, inbound_.size);
    if (is_peek) {
      if (from.word.load(std::memory_order_relaxed) != word) break;
      done += n;
      continue;
    }
    const std::uint64_t next = lane_word{lane::dmb, at}.pack();
    if (!from.word.compare_exchange_strong(word, next, std::memory_order_relaxed)) break;
    word = next;
    done += n;
    tell_consumer(done == *used);
  }
  return std::size_t{done};
}

// Tells the peer how far we have read, but only when that helps it: a whole
// line changes hands each time.
void connection::tell_consumer(bool is_ring_empty) noexcept {
  direction& from = end_->receiving;
  const std::uint64_t dmb_bytes = from.dmb_bytes();
  const std::uint64_t untold = dmb_bytes - std::min(from.told, dmb_bytes);
  // Nothing helps the peer that is so little, whatever it asks for.
  if (untold < inbound_.size / 8 && !is_ring_empty) return;
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  const auto peer = cdc::unpack(control->consumer.load(std::memory_order_relaxed));
  const bool is_peer_blocked = (peer.producer_flags & cdc::write_blocked) != 0;
  if (untold < inbound_.size / 4 &&
      !(is_peer_blocked && (is_ring_empty || untold >= inbound_.size / 8))) {
    return;
  }
  from.told = dmb_bytes;
  // Looked up each time it is tried: it must never go back.
  change_consumer_word([&](cdc::cursor_word& word) { word.at = cursor_of(from.now().at); });
  if (is_peer_blocked) stack_->signals().signal(theirs());
}

// The TCP lane, as far as the next mark. `word` as above.
result<std::size_t> connection::read_tcp(tcp_lane& tcp, buffers to, bool is_peek,
                                         std::uint64_t word) noexcept {
  direction& from = end_->receiving;
  const bool may_meet_marks = meets_marks();
  // Between what the kernel gives and what we count of it no handler may look
  // at the marks.
  std::optional<dibs::signal_shield> quiet;
  if (may_meet_marks) quiet.emplace();
  if (from.word.load(std::memory_order_relaxed) != word) return dibs::would_block();
  std::size_t done = 0;
  buffer_walk walk(to);
  for (std::span<std::byte> part = walk.here(); !part.empty(); part = walk.here()) {
    if (may_meet_marks) {
      // What the kernel holds now was sent after its marks were published. So
      // count first, look at the marks after, and never take more than both.
      std::byte one{};
      if (const result<std::size_t> any = tcp.peek({&one, 1}); !any || *any == 0) return any;
      // At an urgent byte the kernel counts none, but has one.
      const std::uint64_t unread = std::max<std::uint64_t>(tcp.unread(), 1);
      const std::uint64_t n = std::min({std::uint64_t{part.size()}, unread, bytes_before_mark()});
      if (n == 0) break;
      part = part.first(static_cast<std::size_t>(n));
    }
    const result<std::size_t> got = is_peek ? tcp.peek(part) : tcp.receive(part);
    if (!got) return done > 0 ? result<std::size_t>(done) : got;
    if (*got == 0) return done;  // the end of the stream
    done += *got;
    if (!is_peek) from.tcp_bytes.fetch_add(*got, std::memory_order_relaxed);
    if (*got < part.size() || is_peek || may_meet_marks) break;
    walk.skip(*got);
  }
  if (done == 0) return dibs::would_block();
  return done;
}

bool connection::has_input(tcp_lane& tcp) noexcept {
  if (stage() != end_stage::established) advance(tcp);
  direction& from = end_->receiving;
  const dibs::lock_guard guard(from.lock);
  turn found = turn::go_on;
  while (found == turn::go_on) found = follow_marks();
  if (found == turn::broken) return true;
  if (found == turn::clc) return is_cut_off(tcp);
  if (from.on() == lane::dmb && ring_used().value_or(1) > 0) return true;
  // Asked before peek(), which would take the error that a read has to tell.
  const bool is_over = tcp.has_hung_up();
  std::byte one{};
  const result<std::size_t> health = is_over ? std::size_t{0} : tcp.peek({&one, 1});
  if (!health && dibs::is_would_block(health.error())) return false;
  from.looked = 0;  // the read that follows asks again
  if (!health) return true;
  if (from.on() == lane::dmb || *health == 0) return true;
  // Raw bytes, unless a CLC message came between the two looks.
  while ((found = follow_marks()) == turn::go_on) {
  }
  return found != turn::clc;
}

bool connection::has_dmb_input() noexcept {
  if (stage() != end_stage::established) return false;
  const dibs::lock_guard guard(end_->receiving.lock);
  turn found = turn::go_on;
  while (found == turn::go_on) found = follow_marks();
  if (found == turn::broken) return true;
  return end_->receiving.on() == lane::dmb && ring_used().value_or(1) > 0;
}

std::size_t connection::readable_size(tcp_lane& tcp) noexcept {
  if (stage() != end_stage::established) advance(tcp);
  direction& from = end_->receiving;
  const dibs::lock_guard guard(from.lock);
  while (follow_marks() == turn::go_on) {
  }
  const std::uint64_t waiting = from.on() == lane::dmb ? ring_used().value_or(0) : tcp.unread();
  return static_cast<std::size_t>(std::min(waiting, bytes_before_mark()));
}

bool connection::input_hint() const noexcept {
  const direction& from = end_->receiving;
  // seq_cst: after arming these are the second accesses of [wake].
  if (meets_marks() && theirs().marks_published.load(std::memory_order_seq_cst) !=
                           from.marks.load(std::memory_order_relaxed)) {
    return true;
  }
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  if (control == nullptr) return false;
  if (cursor_of(control->producer.load(std::memory_order_seq_cst)) != cursor_of(from.now().at)) {
    return true;
  }
  return (cdc::unpack(control->consumer.load(std::memory_order_relaxed)).connection_flags) != 0;
}

// ---- writing ---------------------------------------------------------------

result<std::size_t> connection::write_some(tcp_lane& tcp, buffers from,
                                           std::uint64_t now) noexcept {
  direction& to = end_->sending;
  for (;;) {
    if (stage() != end_stage::established) advance(tcp);
    const dibs::lock_guard guard(to.lock);
    // A message of the handshake went out in part: it must be finished first.
    if (end_->is_clc_marked) return dibs::would_block();
    // A signal handler came in the middle of a write to the ring. Its bytes
    // take the other lane; the write that it interrupted starts again.
    if (guard.is_nested() && to.on() == lane::dmb && !switch_sending(lane::tcp)) {
      return dibs::would_block();
    }
    if (to.on() == lane::tcp && !guard.is_nested() && may_return()) {
      static_cast<void>(switch_sending(lane::dmb));
    }
    const std::uint64_t word = to.word.load(std::memory_order_relaxed);
    if (lane_word::unpack(word).on == lane::dmb && !to.is_shut) {
      const bool is_look_due =
          is_asked_back() || peer_has_closed() || has_passed(to.looked, writer_patience, now);
      const std::optional<std::uint32_t> room = ring_room();
      if (!room) return make_error_code(errc::bad_cursor);
      if (is_look_due) to.looked = now;
      const bool is_given_up =
          (is_look_due || *room == 0) && may_give_up(tcp, now, is_look_due, 1) && may_leave(tcp);
      if (!is_given_up) {
        if (*room == 0) return dibs::would_block();
        const std::size_t sent = write_ring(from, *room, word);
        if (sent > 0 || to.word.load(std::memory_order_relaxed) == word) return sent;
        continue;  // a signal handler took the other lane
      }
      // A peer that is gone reads no mark.
      static_cast<void>(switch_sending(lane::tcp));
    }
    std::size_t done = 0;
    buffer_walk walk(from);
    for (std::span<std::byte> part = walk.here(); !part.empty(); part = walk.here()) {
      const result<std::size_t> sent = tcp.send(part);
      if (!sent) {
        if (done == 0) return sent;
        break;
      }
      done += *sent;
      if (*sent < part.size()) break;
      walk.skip(*sent);
    }
    to.tcp_bytes.fetch_add(done, std::memory_order_relaxed);
    count_call();
    return done;
  }
}

// Free bytes in the peer's ring; nothing if its cursor cannot be.
std::optional<std::uint32_t> connection::ring_room() const noexcept {
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  // [cdc-cons]
  const std::uint64_t consumer = control->consumer.load(std::memory_order_seq_cst);
  const auto used =
      distance(cursor_of(consumer), cursor_of(end_->sending.now().at), outbound_.size);
  if (!used) return std::nullopt;
  return outbound_.size - *used;
}

// `word`: of before the caller looked at the lane. Writes less, or nothing, if
// that changes meanwhile.
std::size_t connection::write_ring(buffers from, std::uint32_t room, std::uint64_t word) noexcept {
  direction& to = end_->sending;
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
  const auto size = static_cast<std::uint32_t>(std::min<std::uint64_t>(room, total_size(from)));
  buffer_walk walk(from);
  std::uint32_t done = 0;
  place at = lane_word::unpack(word).at;
  while (done < size) {
    const std::uint32_t n = std::min(size - done, piece);
    copy_ring<copy_way::into_ring>(outbound_.data(), at.count, walk, n, is_reader_elsewhere);
    at = smcd::advance(at, n, outbound_.size);
    const std::uint64_t next = lane_word{lane::dmb, at}.pack();
    if (!to.word.compare_exchange_strong(word, next, std::memory_order_relaxed)) break;
    word = next;
    done += n;
    // [cdc-prod] data before the cursor; first access of the sender in [wake].
    control->producer.store(cdc::pack({cursor_of(at), 0, 0}), std::memory_order_seq_cst);
    stack_->signals().signal(theirs());
  }
  return done;
}

// Is the DMB lane no longer the way to go? If it is, but has not `enough` bytes
// of room, the reader is asked to tell when there is.
bool connection::may_give_up(tcp_lane& tcp, std::uint64_t now, bool is_look_due,
                             std::uint32_t enough) noexcept {
  direction& to = end_->sending;
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
  return has_passed(to.full_since, std::uint64_t{patience_us()} * dibs::ticks_per_us, now);
}

bool connection::is_peer_gone(tcp_lane& tcp) const noexcept {
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  const auto flags =
      cdc::unpack(control->consumer.load(std::memory_order_acquire)).connection_flags;
  if ((flags & (cdc::closed | cdc::aborted)) != 0) return true;
  return (flags & cdc::sending_done) == 0 && tcp.has_hung_up();
}

// Can the reader be told that we leave the ring? Only if it took the marks
// before. It does so while it reads.
bool connection::may_leave(tcp_lane& tcp) const noexcept {
  return can_publish(theirs(), end_->sending.marks.load(std::memory_order_relaxed)) ||
         is_peer_gone(tcp);
}

std::uint32_t connection::patience_us() const noexcept {
  const std::uint32_t longest = stack_->settings().patience_us;
  return end_->peer == end_->self ? std::min(longest, config::own_patience_us) : longest;
}

// On TCP because a ring was full once: back, when the reader caught up.
bool connection::may_return() const noexcept {
  const direction& to = end_->sending;
  return stage() == end_stage::established && !to.is_pinned && !to.is_shut &&
         ring_room().value_or(0) > outbound_.size / 2;
}

// This end does not wait for room any more.
void connection::unblock() noexcept {
  if (std::exchange(end_->sending.full_since, 0) == 0) return;
  change_consumer_word([](cdc::cursor_word& word) {
    word.producer_flags = static_cast<std::uint8_t>(word.producer_flags & ~cdc::write_blocked);
  });
}

bool connection::switch_sending(lane wanted) noexcept {
  const dibs::signal_shield quiet;
  direction& to = end_->sending;
  std::uint32_t published = to.marks.load(std::memory_order_relaxed);
  if (!can_publish(theirs(), published)) return false;
  publish_mark(mine(), published,
               {to.offset(), wanted == lane::dmb ? mark_to_dmb : mark_to_tcp, 0});
  to.marks.store(published, std::memory_order_relaxed);
  to.word.store(lane_word{wanted, to.now().at}.pack(), std::memory_order_relaxed);
  unblock();
  // A reader that sleeps on the other lane must look at the marks.
  stack_->signals().signal(theirs());
  return true;
}

bool connection::has_room(tcp_lane& tcp, std::uint64_t now) noexcept {
  if (stage() != end_stage::established) advance(tcp);
  direction& to = end_->sending;
  const dibs::lock_guard guard(to.lock);
  if (end_->is_clc_marked) return false;
  if (to.on() == lane::tcp) return true;
  const std::optional<std::uint32_t> room = ring_room();
  if (!room || *room >= outbound_.size / 4) return true;
  if (may_give_up(tcp, now, true, outbound_.size / 4)) return may_leave(tcp);
  return ring_room() >= outbound_.size / 4;
}

bool connection::room_hint() const noexcept {
  return end_->sending.on() == lane::tcp || ring_room().value_or(1) > 0;
}

std::size_t connection::unread_by_peer() noexcept {
  if (stage() != end_stage::established) return 0;
  const dibs::lock_guard guard(end_->sending.lock);
  return outbound_.size - ring_room().value_or(outbound_.size);
}

bool connection::shares_cpu() const noexcept {
  const std::uint32_t here = static_cast<std::uint32_t>(::sched_getcpu()) + 1;
  cdc::record* theirs = outbound_.control.load(std::memory_order_relaxed);
  if (theirs != nullptr && theirs->cpu.load(std::memory_order_relaxed) != here) {
    theirs->cpu.store(here, std::memory_order_relaxed);
  }
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  return control != nullptr && control->cpu.load(std::memory_order_relaxed) == here;
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
  return control != nullptr &&
         cdc::unpack(control->consumer.load(std::memory_order_relaxed)).connection_flags != 0;
}

void connection::shutdown_write() noexcept {
  const dibs::lock_guard guard(end_->sending.lock);
  if (!end_->sending.is_shut) end_->sending.was_peer_first = peer_is_done_sending();
  end_->sending.is_shut = true;
  change_consumer_word([](cdc::cursor_word& word) { word.connection_flags |= cdc::sending_done; });
  if (stage() == end_stage::established) stack_->signals().signal(theirs());
}

}  // namespace smcd
