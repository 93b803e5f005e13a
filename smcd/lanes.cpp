// SPDX-License-Identifier: Apache-2.0
#include <smcd/lanes.hpp>

#include <devices/chaos.hpp>

#include <atomic>

namespace smcd {

using dibs::max_marks;

bool can_publish(const dibs::record_side& theirs, std::uint32_t published) noexcept {
  // Hostile or not: a wrong count can only cost the peer its own marks.
  const std::uint32_t taken = theirs.marks_taken.load(std::memory_order_acquire);
  return published - taken < max_marks;
}

void publish_mark(dibs::record_side& mine, std::uint32_t& published, dibs::mark added) noexcept {
  dibs::mark& place = mine.marks[published % max_marks];
  std::atomic_ref(place.offset).store(added.offset, std::memory_order_relaxed);
  std::atomic_ref(place.kind).store(added.kind, std::memory_order_relaxed);
  std::atomic_ref(place.length).store(added.length, std::memory_order_relaxed);
  ++published;
  dibs::chaos::stall();
  // [marks] the mark before the count, and both before any byte at its offset.
  mine.marks_published.store(published, std::memory_order_seq_cst);
  dibs::chaos::stall();
}

void void_mark(dibs::record_side& mine, std::uint32_t published) noexcept {
  // [marks] seen by whoever finds a byte behind it on the TCP lane.
  std::atomic_ref(mine.marks[(published - 1) % max_marks].kind)
      .store(mark_void, std::memory_order_seq_cst);
}

next_mark look_at_mark(const dibs::record_side& theirs, std::uint32_t taken,
                       std::uint64_t offset) noexcept {
  // [marks], and second access of [left].
  const std::uint32_t published = theirs.marks_published.load(std::memory_order_seq_cst);
  if (published == taken) return {};
  if (published - taken > max_marks) return {next_mark::answer::invalid, {}};
  auto& place =
      const_cast<dibs::mark&>(theirs.marks[taken % max_marks]);  // atomic_ref<const> is C++26
  const dibs::mark seen{std::atomic_ref(place.offset).load(std::memory_order_relaxed),
                        std::atomic_ref(place.kind).load(std::memory_order_acquire),
                        std::atomic_ref(place.length).load(std::memory_order_relaxed)};
  const bool is_valid =
      seen.offset >= offset &&
      (seen.kind == mark_clc ? seen.length > 0 && seen.length <= longest_clc
                             : seen.kind >= mark_to_dmb && seen.kind <= mark_void);
  return {is_valid ? next_mark::answer::found : next_mark::answer::invalid, seen};
}

void take_mark(dibs::record_side& mine, std::uint32_t& taken) noexcept {
  ++taken;
  // Frees the place; whatever stood there was copied before.
  mine.marks_taken.store(taken, std::memory_order_release);
}

}  // namespace smcd
