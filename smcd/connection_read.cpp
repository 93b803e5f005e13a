// SPDX-License-Identifier: Apache-2.0
// Bytes: reading over the two lanes.
#include <smcd/connection.hpp>

#include <devices/chaos.hpp>
#include <devices/ticks.hpp>
#include <smcd/error.hpp>

#include <algorithm>
#include <utility>

namespace smcd {
namespace {

// How often an empty ring asks the TCP lane whether the peer still lives.
constexpr std::uint64_t reader_patience = 20 * dibs::ticks_per_us;

// The end of the stream, or an error.
bool is_over(const result<std::size_t>& got) noexcept {
  return got ? *got == 0 : !dibs::is_would_block(got.error());
}

}  // namespace

result<std::size_t> connection::read_some(tcp_lane& tcp, buffers to, bool is_peek,
                                          std::uint64_t now) noexcept {
  if (is_young() && enter_young()) {
    const result<std::size_t> got = tcp.receive_parts(to, is_peek);
    leave_early(got && !is_peek ? *got : 0, 0);
    return got;
  }
  if (!is_grown(tcp)) return tcp.receive_parts(to, is_peek);
  direction& from = end()->receiving;
  for (;;) {
    if (!is_sound(tcp)) return make_error_code(errc::protocol_violation);
    turn found = turn::nothing;
    {
      const dibs::lock_guard guard(from.lock);
      const std::uint64_t word = from.word.load(std::memory_order_relaxed);
      found = follow_marks();
      if (found == turn::go_on) continue;
      dibs::chaos::stall();
      if (found == turn::broken) return make_error_code(errc::protocol_violation);
      if (found == turn::nothing) {
        if (is_peek && bytes_before_mark() < total_size(to)) {
          if (const std::size_t seen = peek_ahead(tcp, to); seen > 0) return seen;
        }
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
        const result<std::size_t> got = read_ring(tcp, to, is_peek, word);
        if (!got || *got > 0) return got;
        // A signal handler read what we were about to.
        if (from.word.load(std::memory_order_relaxed) != word) continue;
        if (!dibs::has_passed(from.looked, reader_patience, now) && !peer_is_done_sending() &&
            !from.is_shut) {
          return dibs::would_block();
        }
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
    const dibs::lock_guard guard(from.lock);
    if (is_cut_off(tcp)) return std::size_t{0};
    return dibs::would_block();
  }
}

// What every look at the connection begins with: the handshake goes on, or the
// peer is given what it left unread. False if the peer broke the protocol.
bool connection::is_sound(tcp_lane& tcp) noexcept {
  if (!is_established()) {
    advance(tcp);
  } else if (is_draining()) [[unlikely]] {
    drain(tcp);
  } else if (has_peer_left()) [[unlikely]] {
    if (!attend_leaver(tcp)) return false;
    begin_anew(tcp);
  }
  return true;
}

// The kernel tells of an error once. Bytes of the DMB lane come before it.
void connection::keep(const result<std::size_t>& over) noexcept {
  if (!over) untold_error_ = over.error().value();
}

void connection::put_back(const error_code& code) noexcept {
  if (is_young() || code.category() != boost::system::system_category()) return;
  const dibs::lock_guard guard(end()->receiving.lock);
  untold_error_ = code.value();
}

result<std::size_t> connection::tell(const result<std::size_t>& over) noexcept {
  const int kept = std::exchange(untold_error_, 0);
  return over && kept != 0 ? result<std::size_t>(dibs::system_error(kept)) : over;
}

int connection::take_error() noexcept {
  if (is_young()) return 0;
  const dibs::lock_guard guard(end()->receiving.lock);
  return std::exchange(untold_error_, 0);
}

// Carries out marks at the reader's offset, as far as that takes no CLC.
connection::turn connection::follow_marks() noexcept {
  direction& from = end()->receiving;
  if (!meets_marks()) return turn::nothing;
  if (const next_mark ahead = mark_ahead();
      ahead.what == next_mark::answer::none ||
      (ahead.what == next_mark::answer::found && ahead.at.offset > from.offset())) {
    return turn::nothing;
  }
  // A signal handler may have been here between our looks at it.
  const dibs::signal_shield quiet;
  const next_mark next = mark_ahead();
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

// The peer ended in the middle of the CLC message that stands here. `receiving.lock`
// is held: a message that another thread takes between the looks is not cut off.
bool connection::is_cut_off(tcp_lane& tcp) noexcept {
  if (!tcp.has_hung_up()) return false;
  const next_mark next = mark_ahead();
  return next.what == next_mark::answer::invalid ||
         (next.what == next_mark::answer::found && tcp.unread() < next.at.length);
}

std::uint64_t connection::bytes_before_mark() const noexcept {
  if (!meets_marks()) return ~std::uint64_t{0};
  const std::uint64_t offset = end()->receiving.offset();
  const next_mark next = mark_ahead();
  return next.what == next_mark::answer::found ? next.at.offset - offset : ~std::uint64_t{0};
}

// Bytes in our ring; nothing if the peer's cursor cannot be.
std::optional<std::uint32_t> connection::ring_used() const noexcept {
  const cdc::record* control = inbound_.control.load(std::memory_order_acquire);
  if (control == nullptr) return 0;
  const direction& from = end()->receiving;
  for (;;) {
    const std::uint64_t word = from.word.load(std::memory_order_relaxed);
    // [cdc-prod]; seq_cst: after arming, this is the second access of [wake].
    const std::uint64_t producer = control->producer.load(std::memory_order_seq_cst);
    const auto used =
        distance(cursor_of(lane_word::unpack(word).at), cdc::cursor_of(producer), inbound_.size);
    // Unless a signal handler read meanwhile, no answer is the peer's doing.
    if (used || from.word.load(std::memory_order_relaxed) == word) return used;
  }
}

// `word`: of before the caller looked at the marks. Gives less than there is,
// or nothing, if that changes meanwhile.
result<std::size_t> connection::read_ring(tcp_lane& tcp, buffers to, bool is_peek,
                                          std::uint64_t word) noexcept {
  direction& from = end()->receiving;
  const std::optional<std::uint32_t> used = ring_used();
  if (!used) return make_error_code(errc::bad_cursor);
  // Bytes behind the next mark are in the ring already, but not yet due.
  const std::uint64_t due = std::min<std::uint64_t>(*used, bytes_before_mark());
  const auto whole = static_cast<std::uint32_t>(std::min<std::uint64_t>(due, total_size(to)));
  // Few programs that wait for a short message bear to get it in two.
  const std::uint32_t size = whole < 1024 ? whole : dibs::chaos::at_most(whole);
  // Edge-triggered programs stop at a short read: the rest is news to them.
  if (size < whole && !is_peek) wake_waiters();
  if (!tcp.may_write(to, size)) return dibs::system_error(EFAULT);
  std::optional<dibs::signal_shield> quiet;
  if (is_draining() && !is_peek && size > 0) [[unlikely]] {
    quiet.emplace();
    if (from.word.load(std::memory_order_relaxed) != word || !take_back(size)) return 0;
  }
  buffer_walk walk(to);
  std::uint32_t done = 0;
  place at = lane_word::unpack(word).at;
  while (done < size) {
    const std::uint32_t n = dibs::chaos::at_most(std::min(size - done, piece));
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
    if (may_tell_consumer(done == *used)) tell_consumer(done == *used);
  }
  return std::size_t{done};
}

// Nothing helps the peer that is so little, unless it waits for all that there is.
bool connection::may_tell_consumer(bool is_ring_empty) const noexcept {
  const direction& from = end()->receiving;
  return from.dmb_bytes() - from.told >= inbound_.size / 8 ||
         (is_ring_empty && (cdc::unpack(inbound_.control.load(std::memory_order_relaxed)
                                            ->consumer.load(std::memory_order_relaxed))
                                .producer_flags &
                            cdc::write_blocked) != 0);
}

// Tells the peer how far we have read, but only when that helps it: a whole
// line changes hands each time.
void connection::tell_consumer(bool is_ring_empty) noexcept {
  direction& from = end()->receiving;
  const std::uint64_t dmb_bytes = from.dmb_bytes();
  const std::uint64_t untold = dmb_bytes - std::min(from.told, dmb_bytes);
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  const auto peer = cdc::unpack(control->consumer.load(std::memory_order_relaxed));
  const bool is_peer_blocked = (peer.producer_flags & cdc::write_blocked) != 0;
  // As late as the peer must bear: what it waits for, or half of the ring.
  if (!is_peer_blocked && untold < inbound_.size / 2 && dibs::chaos::one_in(2)) return;
  if (untold < inbound_.size / 4 &&
      !(is_peer_blocked && (is_ring_empty || untold >= inbound_.size / 8))) {
    return;
  }
  tell_place();
  if (is_peer_blocked) stack_->signals().signal(theirs());
}

void connection::tell_place() noexcept {
  direction& from = end()->receiving;
  from.told = from.dmb_bytes();
  // Looked up each time it is tried: it must never go back.
  change_consumer_word([&](cdc::cursor_word& word) { word.at = cursor_of(from.now().at); });
}

// The TCP lane, as far as the next mark. `word` as above.
result<std::size_t> connection::read_tcp(tcp_lane& tcp, buffers to, bool is_peek,
                                         std::uint64_t word) noexcept {
  direction& from = end()->receiving;
  const bool may_meet_marks = meets_marks();
  // Between what the kernel gives and what we count of it no handler may look
  // at the marks.
  std::optional<dibs::signal_shield> quiet;
  if (may_meet_marks) quiet.emplace();
  if (from.word.load(std::memory_order_relaxed) != word) return dibs::would_block();
  std::uint64_t n = total_size(to);
  if (may_meet_marks) {
    // What the kernel holds now was sent after its marks were published. So
    // count first, look at the marks after, and never take more than both.
    std::byte one{};
    if (const result<std::size_t> any = tcp.peek({&one, 1}); !any || *any == 0) return any;
    // At an urgent byte the kernel counts none, but has one.
    const std::uint64_t unread = std::max<std::uint64_t>(tcp.unread(), 1);
    n = std::min({n, unread, bytes_before_mark()});
    if (n == 0) return dibs::would_block();
  }
  const first_bytes part(to, static_cast<std::size_t>(n));
  const result<std::size_t> got = tcp.receive_parts(part.list(), is_peek);
  if (got && !is_peek) from.tcp_bytes.fetch_add(*got, std::memory_order_relaxed);
  // What stands behind them may have been signalled while these bytes were still
  // on their way, and found not to be due. It is news now.
  if (got && *got > 0 && !is_peek && may_meet_marks && bytes_before_mark() == 0) wake_waiters();
  return got;
}

bool connection::has_input(tcp_lane& tcp) noexcept {
  if (is_young()) {
    std::byte one{};
    const result<std::size_t> any = tcp.peek({&one, 1});
    return any || !dibs::is_would_block(any.error());
  }
  if (!is_sound(tcp)) return true;
  direction& from = end()->receiving;
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

bool connection::has_dmb_input(tcp_lane& tcp) noexcept {
  if (stage() != end_stage::established) return false;
  if (!is_sound(tcp)) return true;
  const dibs::lock_guard guard(end()->receiving.lock);
  turn found = turn::go_on;
  while (found == turn::go_on) found = follow_marks();
  if (found == turn::broken) return true;
  return end()->receiving.on() == lane::dmb && ring_used().value_or(1) > 0;
}

std::int64_t connection::received_besides() noexcept {
  if (is_young()) return 0;
  direction& from = end()->receiving;
  const dibs::lock_guard guard(from.lock);
  const bool has_ring = inbound_.control.load(std::memory_order_acquire) != nullptr;
  // After we left they come over TCP.
  const std::uint64_t unread = is_established() ? ring_used().value_or(0) : 0;
  const std::uint64_t in_dmb = has_ring ? from.dmb_bytes() + unread : 0;
  return from.besides + static_cast<std::int64_t>(in_dmb - from.extra_bytes);
}

bool connection::input_hint() const noexcept {
  if (is_young()) return false;
  if (dibs::chaos::one_in(64)) return true;
  const direction& from = end()->receiving;
  // seq_cst: after arming these are the second accesses of [wake].
  if (meets_marks() && theirs().marks_published.load(std::memory_order_seq_cst) !=
                           from.marks.load(std::memory_order_relaxed)) {
    return true;
  }
  if (is_established() && has_peer_left() && !end()->sending.is_returning) return true;
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  if (control == nullptr) return false;
  if (cdc::cursor_of(control->producer.load(std::memory_order_seq_cst)) !=
      cursor_of(from.now().at)) {
    return true;
  }
  return (cdc::unpack(control->consumer.load(std::memory_order_relaxed)).connection_flags) != 0;
}

}  // namespace smcd
