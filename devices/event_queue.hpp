// SPDX-License-Identifier: Apache-2.0
#pragma once
// Waking, the only place where it is decided. A waiter (a thread, an epoll
// set, an Asio context) owns an event queue in shared memory: a bit for each
// connection, a summary above the bits, and a bell to sleep on. It leaves its
// waiter word in the record of each connection that it waits for.
//
// Arm and publish is Dekker's pattern. The four accesses that carry it are
// seq_cst and marked [wake]: the sender publishes its cursor, then looks for
// waiters and at `armed`; the waiter enters its word and arms, then looks at
// the cursor. One of the two always sees the other.

#include <devices/bell.hpp>
#include <devices/fabric.hpp>
#include <devices/ids.hpp>
#include <devices/mapping.hpp>
#include <devices/rendezvous.hpp>
#include <devices/ticks.hpp>
#include <devices/unique_fd.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <utility>

namespace dibs {

inline constexpr std::uint32_t queue_bits = 4096;
inline constexpr std::uint32_t queues_per_device = 1024;
inline constexpr std::uint32_t queue_notes = 128;
// A sender that loses its way to the bell in the very moment in which the waiter
// falls asleep has published what it cannot ring for. So nobody sleeps longer
// without another look.
inline constexpr std::uint32_t longest_sleep_us = 10'000'000;
// And who slept looks what memory is not needed, but not more often than that:
// by any clock less than such a sleep.
inline constexpr std::uint64_t rest_time = 5'000'000 * ticks_per_us;

// Writer of `armed`: the waiter sets it, the sender that rings takes it back.
// Bits are set by senders and taken by the waiter. Before a sender sets a bit
// it notes which, so that the waiter can tell what came first; old notes are
// written over. For the first few hundred connections all that changes hands is
// one cache line: the waiter looks at notes only if there is more than one bit.
struct queue_block {
  alignas(cache_line) std::atomic<std::uint32_t> armed;    // changes when somebody sleeps
  alignas(cache_line) std::atomic<std::uint64_t> summary;  // bit i: bits[i] is not zero
  std::atomic<std::uint32_t> noted;                        // notes ever made
  std::atomic<std::uint64_t> bits[queue_bits / 64];
  alignas(cache_line) std::atomic<std::uint16_t> notes[queue_notes];
};
static_assert(sizeof(queue_block) <= 1024);

// Which bit of which queue to set: what stands in record_side::waiters.
struct waiter {
  device_number device;
  std::uint16_t queue = 0;
  std::uint16_t bit = 0;

  [[nodiscard]] constexpr std::uint64_t word() const noexcept {
    // queue + 1, so that no waiter is the word 0, which means "nobody".
    return std::uint64_t{device.index} << 48 | std::uint64_t{device.generation} << 32 |
           (std::uint64_t{queue} + 1) << 16 | bit;
  }
  // The queue alone.
  [[nodiscard]] static constexpr std::uint64_t queue_of(std::uint64_t word) noexcept {
    return word & ~std::uint64_t{0xFFFF};
  }
  [[nodiscard]] static constexpr waiter from_word(std::uint64_t word) noexcept {
    return {{static_cast<std::uint16_t>(word >> 48), static_cast<std::uint16_t>(word >> 32)},
            static_cast<std::uint16_t>((word >> 16) - 1),
            static_cast<std::uint16_t>(word)};
  }
};

// The event queues of one device. Any thread.
class event_queues {
 public:
  // Makes `<gid>.events`.
  [[nodiscard]] static result<event_queues> create(const fabric&, const gid&,
                                                   device_number) noexcept;

  // Hands out a queue. errc::fabric_full if there is none left.
  [[nodiscard]] result<std::uint16_t> claim() noexcept;
  void give_back(std::uint16_t queue) noexcept;

  [[nodiscard]] queue_block& block(std::uint16_t queue) const noexcept {
    return *memory_.at<queue_block>(page_size + queue * std::size_t{1024});
  }
  [[nodiscard]] waiter waiter_for(std::uint16_t queue, std::uint16_t bit) const noexcept {
    return {number_, queue, bit};
  }
  // Opens the bell of a queue for reading, making it if need be.
  [[nodiscard]] unique_fd open_bell(std::uint16_t queue) const noexcept;

  event_queues() noexcept = default;

 private:
  fabric fabric_{};
  gid owner_{};
  device_number number_{};
  fabric::path_text path_{};
  mapping memory_;
};

// One waiter's queue and bell. Used by one thread at a time.
class event_queue {
 public:
  event_queue() noexcept = default;
  event_queue(event_queue&& other) noexcept { *this = std::move(other); }
  event_queue& operator=(event_queue&& other) noexcept {
    std::swap(from_, other.from_);
    std::swap(block_, other.block_);
    std::swap(index_, other.index_);
    std::swap(bell_, other.bell_);
    std::swap(bell_inode_, other.bell_inode_);
    std::swap(seen_notes_, other.seen_notes_);
    return *this;
  }
  ~event_queue() { close(); }

  // `from` must outlive the queue.
  [[nodiscard]] static result<event_queue> open(event_queues& from) noexcept;

  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept { return from_ != nullptr; }
  // Becomes readable when armed and a sender had something to say.
  [[nodiscard]] int bell() const noexcept { return bell_.get(); }
  // False when the descriptor is no longer the bell (the program closed it
  // behind our back); it is then forgotten, and opened again if possible.
  [[nodiscard]] bool ensure_bell() noexcept;
  // For callers that keep their own descriptors out of sight.
  void hide_bell() noexcept { bell_ = move_high(std::move(bell_)); }
  // In a forked child: the queue is the parent's; only our descriptor goes.
  void abandon() noexcept;

  [[nodiscard]] std::uint64_t word(std::uint16_t bit) const noexcept {
    return from_->waiter_for(index_, bit).word();
  }
  // After arm(), look once more at everything waited for, then sleep.
  void arm() noexcept;
  void disarm() noexcept;
  // Wakes one who sleeps on the bell of this very queue.
  void ring() noexcept;
  // Empties the bell after a sleep.
  void drain_bell() noexcept;
  [[nodiscard]] bool has_bits() const noexcept;
  // Takes all bits that are set and calls visit(bit) for each, in the order in
  // which they were set; of very many, those that came last are in order.
  template <class Visit>
  void take_bits(Visit visit) noexcept;
  void set_bit(std::uint16_t bit) noexcept;

 private:
  // False if the program closed the bell, and perhaps made something else of
  // its number.
  [[nodiscard]] bool has_bell() const noexcept;

  event_queues* from_ = nullptr;
  queue_block* block_ = nullptr;
  std::uint16_t index_ = 0;
  unique_fd bell_;
  std::uint64_t bell_inode_ = 0;
  std::uint32_t seen_notes_ = 0;
};

// Enters a waiter word in a record. False if every place is taken: then poll.
[[nodiscard]] bool enter_waiter(record_side&, std::uint64_t word) noexcept;
void leave_waiter(record_side&, std::uint64_t word) noexcept;

// A sender's end of all the queues of a fabric: maps them as it meets them.
// Any thread; lives as long as the process.
class signaller {
 public:
  void open(const fabric& in, rendezvous& devices) noexcept {
    fabric_ = in;
    devices_ = &devices;
  }
  // Wakes everybody who waits on that side of a record. To be called after
  // the cursor was published with seq_cst. errno is left alone.
  void signal(record_side& side) noexcept {
    held_bell none;
    signal(side, none);
  }
  // With a bell that is open already.
  void signal(record_side& side, held_bell& held) noexcept {
    if (is_awaited(side)) [[unlikely]]
      signal_waiters(side, held);
  }
  // Would signal() reach those who sleep there now? No longer if somebody
  // cleared the fabric directory, or if this process has changed its root
  // directory or its user: then nothing must be published that they would have
  // to be woken for. The bell that was found stays open in `held`.
  [[nodiscard]] bool can_wake(const record_side& side, held_bell& held) noexcept {
    return !is_awaited(side) || can_wake_waiters(side, held);
  }

 private:
  [[nodiscard]] static bool is_awaited(const record_side& side) noexcept {
    std::uint64_t any = 0;
    // [wake] second access of the sender.
    for (const auto& word : side.waiters) any |= word.load(std::memory_order_seq_cst);
    return any != 0;
  }
  void signal_waiters(record_side&, held_bell&) noexcept;
  [[nodiscard]] bool can_wake_waiters(const record_side&, held_bell&) noexcept;
  [[nodiscard]] bool can_wake(std::uint64_t word, held_bell&) noexcept;
  void signal_word(std::uint64_t word, held_bell&) noexcept;
  // The queue that a word names; null if there is none.
  [[nodiscard]] queue_block* queue_of(const waiter&) noexcept;
  [[nodiscard]] held_bell hold_bell(const waiter&) noexcept;
  [[nodiscard]] std::byte* attach(device_number) noexcept;

  fabric fabric_{};
  rendezvous* devices_ = nullptr;
  // By device index: generation << 48 | address of its queues. One word, so
  // that any thread may look.
  std::atomic<std::uint64_t> attached_[rendezvous::device_count]{};
  open_bells bells_;
};

// ---- inline ----------------------------------------------------------------

template <class Visit>
void event_queue::take_bits(Visit visit) noexcept {
  std::uint64_t words = block_->summary.load(std::memory_order_relaxed);
  if (words == 0) return;
  words = block_->summary.exchange(0, std::memory_order_seq_cst);
  std::uint64_t taken[queue_bits / 64];  // where `words` has a bit
  for (std::uint64_t left = words; left != 0; left &= left - 1) {
    const int at = __builtin_ctzll(left);
    taken[at] = block_->bits[at].exchange(0, std::memory_order_seq_cst);
  }
  const std::uint32_t end = block_->noted.load(std::memory_order_relaxed);
  if (const int group = __builtin_ctzll(words);
      (words & (words - 1)) == 0 && std::has_single_bit(taken[group])) {
    seen_notes_ = end;
    return visit(static_cast<std::uint16_t>(group * 64 + __builtin_ctzll(taken[group])));
  }
  // A hint, whatever stands there: a bit is visited once, and only if it was set.
  std::uint16_t noted[queue_notes];
  std::uint32_t count = 0;
  std::uint32_t at = end - std::min(end - seen_notes_, queue_notes);
  for (seen_notes_ = end; at != end; ++at) {
    const std::uint16_t bit = block_->notes[at % queue_notes].load(std::memory_order_relaxed);
    const std::uint64_t mask = std::uint64_t{1} << bit % 64;
    if (bit >= queue_bits || (words >> bit / 64 & 1) == 0 || (taken[bit / 64] & mask) == 0)
      continue;
    taken[bit / 64] &= ~mask;
    noted[count++] = bit;
  }
  // Without a note among these: older.
  for (; words != 0; words &= words - 1) {
    const unsigned group = static_cast<unsigned>(__builtin_ctzll(words));
    for (std::uint64_t bits = taken[group]; bits != 0; bits &= bits - 1) {
      visit(static_cast<std::uint16_t>(group * 64 + static_cast<unsigned>(__builtin_ctzll(bits))));
    }
  }
  for (std::uint32_t i = 0; i < count; ++i) visit(noted[i]);
}

}  // namespace dibs
