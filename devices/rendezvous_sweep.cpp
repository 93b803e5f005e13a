// SPDX-License-Identifier: Apache-2.0
// What a device that is gone leaves in the rendezvous. More than one process
// may sweep it at a time, so every step is an exchange of the very state word
// that was judged: a slot that another one freed, and a third took, differs in
// its generation or in who is at it.
#include <devices/rendezvous.hpp>

namespace dibs {
namespace {

bool is_at(std::uint32_t who, std::uint64_t state) noexcept {
  return who != 0 && state >> 32 == who;
}

// Gone while it made the record, or joined it: then the record is its client's
// again, unless the client went meanwhile.
void take_back(record& entry, std::uint32_t who) noexcept {
  std::uint64_t state = entry.state.load(std::memory_order_acquire);
  while (is_at(who, state)) {
    std::uint64_t next = next_free(state);
    if ((state & 0xFF) == record_joining) next = generation_of(state) << 8 | record_published;
    if (entry.state.compare_exchange_weak(state, next, std::memory_order_acq_rel)) return;
  }
}

void leave_slot(std::atomic<std::uint64_t>& word, const gid& owner, const gid& id,
                std::uint32_t who) noexcept {
  std::uint64_t state = word.load(std::memory_order_acquire);
  const std::uint64_t stage = state & slot_mask;
  const bool is_its =
      (stage == slot_used && owner == id) || (stage == slot_filling && is_at(who, state));
  if (is_its) word.compare_exchange_strong(state, emptied(state), std::memory_order_acq_rel);
}

}  // namespace

void rendezvous::leave(const gid& id) noexcept {
  // Its number, which stays its own until everything else is swept.
  std::uint32_t who = 0;
  for (std::uint32_t index = 0; index < device_count && who == 0; ++index) {
    const std::uint64_t state = device_at(index)->state.load(std::memory_order_acquire);
    if ((state & slot_mask) != slot_used || device_at(index)->id != id) continue;
    who = device_number{static_cast<std::uint16_t>(index),
                        static_cast<std::uint16_t>(slot_generation(state))}
              .word();
  }
  for (std::uint32_t index = 0; index < record_count; ++index) {
    record* entry = record_at(index);
    if (entry == nullptr) {
      index |= records_per_page - 1;
      continue;
    }
    take_back(*entry, who);
    const std::uint64_t state = entry->state.load(std::memory_order_acquire);
    const std::uint64_t stage = state & record_state_mask;
    if (stage == record_free || stage == record_filling) continue;
    const record_ref ref{entry, generation_of(state)};
    if (entry->client.device == id) release(ref, true);
    if (stage == record_joined && entry->server.device == id) release(ref, false);
  }
  for (std::uint32_t index = 0; index < listener_count; ++index) {
    if (listener_entry* entry = listener_at(index)) {
      leave_slot(entry->state, entry->device, id, who);
    } else {
      index |= listeners_per_page - 1;
    }
  }
  for (std::uint32_t index = 0; index < device_count; ++index) {
    device_entry& entry = *device_at(index);
    leave_slot(entry.state, entry.id, id, first_word(id));
  }
}

std::size_t rendezvous::taken_slots() const noexcept {
  std::size_t count = 0;
  for (std::uint32_t index = 0; index < record_count; ++index) {
    const record* entry = record_at(index);
    if (entry != nullptr && (entry->state & record_state_mask) != record_free) ++count;
  }
  for (std::uint32_t index = 0; index < listener_count; ++index) {
    const listener_entry* entry = listener_at(index);
    if (entry != nullptr && (entry->state & slot_mask) != slot_free) ++count;
  }
  for (std::uint32_t index = 0; index < device_count; ++index) {
    if ((device_at(index)->state & slot_mask) != slot_free) ++count;
  }
  return count;
}

}  // namespace dibs
