// SPDX-License-Identifier: Apache-2.0
#include <devices/loopback.hpp>

#include <devices/chaos.hpp>

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace dibs {
namespace {

void* take_pages(std::size_t size) noexcept {
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return at == MAP_FAILED ? nullptr : at;
}

}  // namespace

loopback::~loopback() {
  while (peers_ != nullptr) {
    peer* gone = peers_;
    peers_ = gone->next;
    if (gone->inbound.is_open()) gone->inbound.close();
    gone->~peer();
    ::munmap(gone, sizeof(peer));
  }
}

bool loopback::query_remote_gid(const gid& id) const noexcept {
  return id == id_ || fabric_.is_alive(id);
}

loopback::peer* loopback::find(const gid& id) noexcept {
  for (peer* known = peers_; known != nullptr; known = known->next) {
    if (known->id == id) return known;
  }
  return nullptr;
}

loopback::peer* loopback::find_or_add(const gid& id) noexcept {
  if (peer* known = find(id)) return known;
  drop_dead_peers();
  void* memory = take_pages(sizeof(peer));
  if (memory == nullptr) return nullptr;
  peer* added = new (memory) peer;
  added->id = id;
  added->next = peers_;
  peers_ = added;
  return added;
}

// A new peer is the occasion to let go of the memory of those that died.
void loopback::drop_dead_peers() noexcept {
  for (peer** link = &peers_; *link != nullptr;) {
    peer* known = *link;
    if (known->attached == 0 && known->id != id_ && !fabric_.is_alive(known->id) &&
        (!known->inbound.is_open() || known->inbound.is_idle(true))) {
      *link = known->next;
      if (known->inbound.is_open()) known->inbound.close();
      known->~peer();
      ::munmap(known, sizeof(peer));
    } else {
      link = &known->next;
    }
  }
}

result<dmb> loopback::register_dmb(const gid& writer, std::uint32_t size) noexcept {
  const shielded_guard guard(lock_);
  if (registered_ >= max_dmbs() || chaos::one_in(32)) return make_error_code(errc::no_dmb_left);
  if (chaos::one_in(8)) return make_error_code(errc::fabric_full);
  peer* with = find_or_add(writer);
  if (with == nullptr || chaos::one_in(64)) return system_error(ENOMEM);
  if (!with->inbound.is_open()) {
    if (const error_code failure = segment::create(with->inbound, fabric_, id_, writer)) {
      return failure;
    }
  }
  result<dmb> made = with->inbound.register_dmb(size);
  if (made) ++registered_;
  return made;
}

void loopback::unregister_dmb(const gid& writer, dmb_token token) noexcept {
  const shielded_guard guard(lock_);
  peer* with = find(writer);
  if (with == nullptr || !with->inbound.is_open()) return;
  with->inbound.unregister_dmb(token);
  if (registered_ > 0) --registered_;
}

result<dmb> loopback::attach_dmb(const gid& owner, dmb_token token) noexcept {
  const shielded_guard guard(lock_);
  peer* with = find_or_add(owner);
  if (with == nullptr || chaos::one_in(32)) return system_error(ENOMEM);
  // To ourselves: the one mapping that we have, as the owner.
  segment& from = owner == id_ ? with->inbound : with->outbound;
  if (!from.is_open()) {
    if (owner == id_) return make_error_code(errc::unknown_token);
    if (const error_code failure = segment::open(from, fabric_, owner, id_)) return failure;
  }
  result<dmb> attached = from.attach(token);
  if (attached) ++with->attached;
  return attached;
}

void loopback::detach_dmb(const gid& owner, dmb_token token) noexcept {
  const shielded_guard guard(lock_);
  peer* with = find(owner);
  if (with == nullptr) return;
  segment& from = owner == id_ ? with->inbound : with->outbound;
  if (!from.is_open()) return;
  from.detach(token);
  if (with->attached > 0) --with->attached;
}

error_code loopback::move_data(const gid& owner, dmb_token token, std::uint32_t offset,
                               std::span<const std::byte> data) noexcept {
  const shielded_guard guard(lock_);
  peer* with = find(owner);
  if (with == nullptr) return make_error_code(errc::unknown_gid);
  segment& from = owner == id_ ? with->inbound : with->outbound;
  if (!from.is_open()) return make_error_code(errc::unknown_token);
  const result<dmb> to = from.attached_view(token);
  if (!to) return to.error();
  if (offset > to->memory.size() || data.size() > to->memory.size() - offset) {
    return make_error_code(errc::bad_size);
  }
  if (data.empty()) return {};
  if (const error_code failure = reserve(to->memory.subspan(offset, data.size()))) return failure;
  std::memcpy(to->memory.data() + offset, data.data(), data.size());
  return {};
}

}  // namespace dibs
