// SPDX-License-Identifier: Apache-2.0
#include <smcd/link_group.hpp>

namespace smcd {

link_groups::entry* link_groups::find(const dibs::gid& peer) noexcept {
  for (entry& known : entries_) {
    if (known.peer == peer) return &known;
  }
  return nullptr;
}

link_groups::entry& link_groups::add(const dibs::gid& peer, std::uint32_t link_id) noexcept {
  entry& place = entries_[next_];
  next_ = (next_ + 1) % capacity;
  place = {peer, link_id, false};
  return place;
}

link_groups::entry link_groups::find_or_add(const dibs::gid& peer) noexcept {
  const dibs::shielded_guard guard(lock_);
  if (const entry* known = find(peer)) return *known;
  counter_ += 256;
  entry made = add(peer, counter_);
  made.is_new = true;
  return made;
}

void link_groups::adopt(const dibs::gid& peer, std::uint32_t link_id) noexcept {
  const dibs::shielded_guard guard(lock_);
  if (entry* known = find(peer)) {
    known->link_id = link_id;
  } else {
    add(peer, link_id);
  }
}

}  // namespace smcd
