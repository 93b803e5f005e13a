// SPDX-License-Identifier: Apache-2.0
// Bytes: looking at what waits on both lanes, across marks, without taking any.
#include <smcd/connection.hpp>

#include <devices/chaos.hpp>
#include <smcd/error.hpp>

#include <algorithm>
#include <array>

namespace smcd {

// Calls visit(lane, n, past) for each run of bytes that waits to be read, in
// order; `past` are the bytes before it on the TCP lane, CLC messages included.
// It gives how many it could use. `receiving.lock` is held.
template <class Visit>
std::size_t connection::walk_waiting(tcp_lane& tcp, Visit visit) noexcept {
  const direction& from = end()->receiving;
  // What the kernel holds now was sent after its marks were published: count
  // first, look at the marks after.
  std::uint64_t in_kernel = tcp.unread();
  std::uint64_t in_ring = ring_used().value_or(0);
  std::uint64_t past = 0;
  std::uint64_t offset = from.offset();
  std::size_t done = 0;
  lane on = from.on();
  const std::uint32_t first = from.marks.load(std::memory_order_relaxed);
  for (std::uint32_t taken = first;; ++taken) {
    next_mark next;
    if (meets_marks()) next = taken == first ? mark_ahead() : look_at_mark(theirs(), taken, offset);
    const bool is_marked = next.what == next_mark::answer::found;
    std::uint64_t& waiting = on == lane::tcp ? in_kernel : in_ring;
    const std::uint64_t ahead = is_marked ? next.at.offset - offset : ~std::uint64_t{0};
    const auto n = static_cast<std::size_t>(std::min(waiting, ahead));
    const std::size_t used = n == 0 ? 0 : visit(on, n, static_cast<std::size_t>(past));
    done += used;
    waiting -= n;
    offset += n;
    if (on == lane::tcp) past += n;
    if (used < n || n < ahead || !is_marked) return done;
    if (next.at.kind == mark_clc) {
      if (in_kernel < next.at.length) return done;
      in_kernel -= next.at.length;
      past += next.at.length;
    } else if (next.at.kind != mark_void) {
      on = next.at.kind == mark_to_dmb ? lane::dmb : lane::tcp;
    }
  }
}

std::size_t connection::readable_size(tcp_lane& tcp) noexcept {
  if (is_young()) return tcp.unread();
  if (const std::optional<std::uint32_t> due = due_in_ring()) return *due;
  static_cast<void>(is_sound(tcp));
  const dibs::lock_guard guard(end()->receiving.lock);
  while (follow_marks() == turn::go_on) {
  }
  return walk_waiting(tcp, [](lane, std::size_t n, std::size_t) noexcept { return n; });
}

std::optional<std::uint32_t> connection::due_in_ring() const noexcept {
  if (!is_established()) return std::nullopt;
  const direction& from = end()->receiving;
  const std::uint64_t word = from.word.load(std::memory_order_relaxed);
  const cdc::record* control = inbound_.control.load(std::memory_order_acquire);
  // Without a mark ahead all bytes in the ring are due.
  if (lane_word::unpack(word).on != lane::dmb || control == nullptr || is_draining() ||
      theirs().flags.load(std::memory_order_seq_cst) != 0 ||
      theirs().marks_published.load(std::memory_order_seq_cst) !=
          from.marks.load(std::memory_order_relaxed) ||
      dibs::chaos::one_in(4)) {
    return std::nullopt;
  }
  // [cdc-prod], and second access of the waiter in [wake].
  const std::uint64_t producer = control->producer.load(std::memory_order_seq_cst);
  const auto used =
      distance(cursor_of(lane_word::unpack(word).at), cdc::cursor_of(producer), inbound_.size);
  // Who reads meanwhile may make it look wrong.
  return from.word.load(std::memory_order_relaxed) == word ? used : std::nullopt;
}

glance connection::glance_at_input() const noexcept {
  const std::optional<std::uint32_t> due = due_in_ring();
  if (!due) return glance::unclear;
  return *due > 0 ? glance::yes : glance::no;
}

// "No" takes more: the reader has to be told.
glance connection::glance_at_room() const noexcept {
  if (!is_established()) return glance::unclear;
  const direction& to = end()->sending;
  const bool is_there = to.on() == lane::dmb && !end()->is_clc_marked && !to.is_returning &&
                        theirs().flags.load(std::memory_order_acquire) == 0 &&
                        inbound_.control.load(std::memory_order_acquire) != nullptr &&
                        to.wanted.load(std::memory_order_relaxed) != direction::no_memory &&
                        !dibs::chaos::one_in(4) && ring_room().value_or(0) >= outbound_.size / 4;
  return is_there ? glance::yes : glance::unclear;
}

bool connection::has_dmb_input_ahead(tcp_lane& tcp) noexcept {
  if (!has_dmb()) return false;
  bool any = false;
  const dibs::lock_guard guard(end()->receiving.lock);
  static_cast<void>(walk_waiting(tcp, [&](lane on, std::size_t n, std::size_t) noexcept {
    any = any || on == lane::dmb;
    return n;
  }));
  return any;
}

// Bytes of the TCP lane, `past` bytes from its head on. The kernel shows its
// queue from the head only, and what is past goes to where nobody looks.
std::size_t connection::peek_kernel(tcp_lane& tcp, buffer_walk& to, std::size_t n,
                                    std::size_t past) noexcept {
  std::array<std::byte, 4096> scrap;
  std::array<iovec, 256> parts;
  std::size_t count = 0;
  for (std::size_t left = past; left > 0 && count < parts.size(); ++count) {
    parts[count] = {scrap.data(), std::min(left, scrap.size())};
    left -= parts[count].iov_len;
  }
  buffer_walk ahead = to;
  for (std::size_t left = n; left > 0 && count < parts.size(); ++count) {
    const std::span<std::byte> here = ahead.here();
    parts[count] = {here.data(), std::min(left, here.size())};
    left -= parts[count].iov_len;
    ahead.skip(parts[count].iov_len);
  }
  const result<std::size_t> got = tcp.receive_parts({parts.data(), count}, true);
  if (!got || *got <= past) return 0;
  const std::size_t done = *got - past;
  for (std::size_t left = done; left > 0;) {
    const std::size_t here = std::min(left, to.here().size());
    to.skip(here);
    left -= here;
  }
  return done;
}

// A peek that reaches beyond the next mark. Nothing if there is nothing.
std::size_t connection::peek_ahead(tcp_lane& tcp, buffers to) noexcept {
  const dibs::signal_shield quiet;
  buffer_walk walk(to);
  std::size_t left = total_size(to);
  if (!tcp.may_write(to, left)) return 0;
  place at = end()->receiving.now().at;
  return walk_waiting(tcp, [&](lane on, std::size_t n, std::size_t past) noexcept {
    n = std::min(n, left);
    if (on == lane::dmb) {
      copy_ring<copy_way::out_of_ring>(inbound_.data(), at.count, walk, n);
      at = smcd::advance(at, static_cast<std::uint32_t>(n), inbound_.size);
    } else {
      n = peek_kernel(tcp, walk, n, past);
    }
    left -= n;
    return n;
  });
}

}  // namespace smcd
