// SPDX-License-Identifier: Apache-2.0
// The memory behind the peer's ring. Only its first piece is there when the DMB is
// made; the one who writes the ring adds the others before it touches them, and
// gives them back when they were of no use for a while. Nobody else could know
// that nothing is being written there. What has no memory holds no byte that the
// reader may still want.
#include <smcd/connection.hpp>

#include <devices/chaos.hpp>
#include <devices/mapping.hpp>
#include <devices/ticks.hpp>

#include <algorithm>
#include <bit>
#include <utility>

namespace smcd {
namespace {

// What was not used for so long is idle: less than the time between two rests by
// any clock.
constexpr std::uint64_t idle_time = 4'000'000 * dibs::ticks_per_us;

// The lowest pieces of a set that stand side by side.
struct run {
  int first;
  int count;
  explicit run(std::uint64_t of) noexcept
      : first(std::countr_zero(of)), count(std::countr_one(of >> first)) {}
  [[nodiscard]] std::uint64_t mask() const noexcept { return pieces::all >> (64 - count) << first; }
  [[nodiscard]] std::span<std::byte> of(std::span<std::byte> ring,
                                        const pieces& parts) const noexcept {
    const std::uint32_t begin = parts.begin(first);
    return ring.subspan(begin, parts.begin(first + count) - begin);
  }
};

}  // namespace

// Sees to memory behind the next n bytes of the ring; how many of them have it.
// A full tmpfs is an answer here, and never SIGBUS. `sending.lock` is held.
std::uint32_t connection::back(place at, std::uint32_t n, std::uint64_t now) noexcept {
  direction& to = end()->sending;
  const pieces& parts = outbound_.parts;
  std::uint32_t done = 0;
  while (!is_backed(at, n) && done < n) {
    const std::uint32_t from = (at.count + done) % outbound_.size;
    const std::uint32_t straight = std::min(n - done, outbound_.size - from);
    const std::uint64_t missing = parts.of_ring(from, straight) & ~to.backed;
    if (missing == 0) {
      done += straight;
      continue;
    }
    const run next(missing);
    const std::uint32_t begin = parts.begin(next.first);
    const std::span<std::byte> memory = next.of(outbound_.data(), parts);
    if (dibs::chaos::one_in(16) || dibs::reserve(memory)) {
      dibs::give_back(memory);  // what came of it
      to.short_since = now | 1;
      return done + (begin > from ? begin - from : 0);
    }
    to.backed |= next.mask();
  }
  to.short_since = 0;
  return n;
}

void connection::rest(std::uint64_t now) noexcept {
  if (!is_established()) return;
  direction& to = end()->sending;
  direction& from = end()->receiving;
  if (!dibs::has_passed(to.rested_at.load(std::memory_order_relaxed), idle_time, now)) return;
  {
    // The peer's turn to give back comes when it knows what we have read.
    const dibs::lock_guard guard(from.lock);
    if (guard.is_nested() || !is_established()) return;
    if (from.told != from.dmb_bytes()) tell_place();
  }
  const dibs::lock_guard guard(to.lock);
  if (guard.is_nested() || !is_established()) return;
  to.rested_at.store(now, std::memory_order_relaxed);
  const std::uint64_t word = to.word.load(std::memory_order_relaxed);
  if (std::exchange(to.rested_word, word) == word && !to.is_returning) give_back_idle();
}

// All but what holds bytes that are unread, as far as the peer has told.
void connection::give_back_idle() noexcept {
  direction& to = end()->sending;
  const pieces& parts = outbound_.parts;
  const std::optional<std::uint32_t> room = ring_room();
  if (!room) return;
  const std::uint32_t unread = outbound_.size - *room;
  const std::uint32_t at = to.now().at.count;
  std::uint64_t idle = ~parts.no_piece();
  if (unread > 0) idle &= ~parts.of_ring((at + *room) % outbound_.size, unread);
  if ((to.backed & idle) == 0 && !to.may_have_more) return;
  to.may_have_more = false;
  // First of all: who is killed behind it leaves only memory that is asked for
  // once more.
  to.backed &= ~idle;
  dibs::chaos::stall();
  while (idle != 0) {
    const run next(idle);
    idle &= ~next.mask();
    dibs::give_back(next.of(outbound_.data(), parts));
  }
}

}  // namespace smcd
