// SPDX-License-Identifier: Apache-2.0
// Bytes: what goes through the rings at once, where nothing else is to be done.
// All that may be otherwise leads to read_some() and write_some(), which say why
// they do what is done here.
#include <smcd/connection.hpp>

#include <devices/alone.hpp>
#include <devices/chaos.hpp>
#include <devices/prefetch.hpp>
#include <devices/ticks.hpp>

#include <algorithm>
#include <cstring>

namespace smcd {
namespace {

// How often a busy sender has to go the long way, which looks around.
constexpr std::uint64_t sender_patience = 1000 * dibs::ticks_per_us;

// Bytes.
constexpr std::uint32_t far_ahead = 512;
constexpr std::uint32_t worth_while = 4096;  // less is not worth a call of the filler

}  // namespace

std::size_t connection::read_short(void* to, std::size_t size) noexcept {
  end_state* const at = end();
  if (at == nullptr || at->stage.load(std::memory_order_acquire) != end_stage::established ||
      dibs::chaos::one_in(4)) {
    return 0;
  }
  direction& from = at->receiving;
  const bool is_alone = at->is_alone();
  const dibs::lock_guard guard(from.lock, is_alone);
  const std::uint64_t word = from.word.load(std::memory_order_relaxed);
  const lane_word now = lane_word::unpack(word);
  const dibs::record_side& peer = theirs();
  // Without a mark ahead all bytes in the ring are due.
  if (guard.is_nested() || now.on != lane::dmb ||
      from.is_draining.load(std::memory_order_relaxed) ||
      peer.marks_published.load(std::memory_order_acquire) !=
          from.marks.load(std::memory_order_relaxed) ||
      peer.flags.load(std::memory_order_acquire) != 0) {
    return 0;
  }
  // The line of the cursor changes hands for each look. So what was there at the
  // last one is read first, if that is all that is asked for.
  const std::uint32_t ring_size = inbound_.size;
  const std::uint64_t at_byte = bytes_before(now.at, ring_size);
  std::uint64_t used = std::max(from.seen, at_byte) - at_byte;
  if (used < size) {
    // [cdc-prod]
    const std::uint64_t producer =
        inbound_.control.load(std::memory_order_relaxed)->producer.load(std::memory_order_acquire);
    used = distance(cursor_of(now.at), cdc::cursor_of(producer), ring_size).value_or(0);
    from.seen = at_byte + used;
  }
  const std::size_t n = std::min<std::size_t>(used, size);
  if (n == 0 || n > piece) return 0;
  const std::byte* ring = inbound_.data().data();
  const std::size_t first = std::min<std::size_t>(n, ring_size - now.at.count);
  std::memcpy(to, ring + now.at.count, first);
  if (first < n) [[unlikely]]
    std::memcpy(static_cast<std::byte*>(to) + first, ring, n - first);
  dibs::chaos::stall();
  const place after = smcd::advance(now.at, static_cast<std::uint32_t>(n), ring_size);
  if (!dibs::replace(from.word, word, lane_word{lane::dmb, after}.pack(), is_alone)) return 0;
  if (may_tell_consumer(n == used)) tell_consumer(n == used);
  return n;
}

// fill(at, n) puts up to n bytes into the ring from there on and gives how many.
template <class Fill>
std::size_t connection::write_now(tcp_lane& tcp, std::uint32_t least, std::uint32_t most,
                                  std::uint64_t now, Fill fill) noexcept {
  end_state* const at = end();
  if (at == nullptr || at->stage.load(std::memory_order_acquire) != end_stage::established ||
      dibs::chaos::one_in(4)) {
    return 0;
  }
  direction& to = at->sending;
  const bool is_alone = at->is_alone();
  const dibs::lock_guard guard(to.lock, is_alone);
  const std::uint64_t word = to.word.load(std::memory_order_relaxed);
  const lane_word before = lane_word::unpack(word);
  dibs::record_side& peer = theirs();
  if (guard.is_nested() || before.on != lane::dmb || to.is_shut || at->is_clc_marked ||
      to.full_since != 0 || to.is_returning.load(std::memory_order_relaxed) ||
      peer.flags.load(std::memory_order_acquire) != 0 ||
      dibs::has_passed(to.looked, sender_patience, now)) {
    return 0;
  }
  // [cdc-cons]
  const cdc::cursor_word consumer = cdc::unpack(
      inbound_.control.load(std::memory_order_relaxed)->consumer.load(std::memory_order_acquire));
  const std::uint32_t ring = outbound_.size;
  const auto used = distance(consumer.at, cursor_of(before.at), ring);
  if (!used || least > ring / 4 || least > ring - *used ||
      (consumer.connection_flags & (cdc::closed | cdc::aborted)) != 0) {
    return 0;
  }
  const std::uint32_t room = std::min(most, ring - *used);
  if (!is_backed(before.at, room)) return 0;
  dibs::held_bell bell;
  if (!stack_->signals().can_wake(peer, bell)) return 0;
  const std::uint32_t size = fill(before.at.count, room);
  if (size == 0) return 0;
  const place after = smcd::advance(before.at, size, ring);
  if (!dibs::replace(to.word, word, lane_word{lane::dmb, after}.pack(), is_alone)) return 0;
  if (to.wanted.load(std::memory_order_relaxed) != 1) to.wanted.store(1, std::memory_order_relaxed);
  dibs::chaos::stall();
  // [cdc-prod] data before the cursor; first access of the sender in [wake].
  outbound_.control.load(std::memory_order_relaxed)
      ->producer.store(cdc::pack({cursor_of(after), 0, 0}), std::memory_order_seq_cst);
  dibs::chaos::stall();
  stack_->signals().signal(peer, bell);
  // [left]
  if ((peer.flags.load(std::memory_order_seq_cst) & dibs::flag_left) != 0) [[unlikely]]
    static_cast<void>(return_bytes(tcp));
  return size;
}

std::size_t connection::write_short(tcp_lane& tcp, const void* from, std::size_t size,
                                    std::uint64_t now) noexcept {
  const auto all = static_cast<std::uint32_t>(size);
  return write_now(tcp, all, all, now, [&](std::uint32_t at, std::uint32_t) noexcept {
    std::byte* ring = outbound_.data().data();
    // The reader has the lines of the last round. Those to come are on their way
    // by then.
    const std::uint32_t to_end = outbound_.size - at;
    dibs::prepare_write(ring + (far_ahead < to_end ? at + far_ahead : 0));
    const std::uint32_t first = std::min(all, to_end);
    std::memcpy(ring + at, from, first);
    if (first < all) [[unlikely]]
      std::memcpy(ring, static_cast<const std::byte*>(from) + first, all - first);
    return all;
  });
}

std::size_t connection::write_short(tcp_lane& tcp, buffers from, std::uint64_t now) noexcept {
  const auto all = static_cast<std::uint32_t>(total_size(from));
  return write_now(tcp, all, all, now, [&](std::uint32_t at, std::uint32_t) noexcept {
    buffer_walk walk(from);
    copy_ring<copy_way::into_ring>(outbound_.data(), at, walk, all);
    return all;
  });
}

std::size_t connection::write_in_place(tcp_lane& tcp, std::size_t most, std::uint64_t now,
                                       filler fill, void* of) noexcept {
  const auto one_piece = static_cast<std::uint32_t>(std::min<std::size_t>(most, piece));
  const std::uint32_t least = std::min(one_piece, worth_while);
  return write_now(tcp, least, one_piece, now, [&](std::uint32_t at, std::uint32_t n) noexcept {
    const std::span<std::byte> straight = outbound_.data().subspan(at);
    return fill(of, straight.first(std::min<std::size_t>(n, straight.size())));
  });
}

}  // namespace smcd
