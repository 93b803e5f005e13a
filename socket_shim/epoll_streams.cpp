// SPDX-License-Identifier: Apache-2.0
// epoll: from descriptors to sets, and from streams to the sets that they are in.
#include <socket_shim/epoll.hpp>

#include <socket_shim/meet.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/tcp_socket.hpp>

namespace shim {
namespace {

constinit pool<epoll_set> sets;

}  // namespace

epoll_set* set_of(int epfd) noexcept {
  endpoint* known = self.find(epfd);
  if (known != nullptr && known->kind == endpoint::kind_of::epoll) {
    if (epoll_set* made = known->set.load(std::memory_order_acquire)) return made;
  }
  const dibs::shielded_guard guard(self.first_use());
  known = self.find(epfd);
  if (known != nullptr && known->kind != endpoint::kind_of::epoll) return nullptr;
  if (known == nullptr) {
    known = self.make(endpoint::kind_of::epoll);
    if (known == nullptr) return nullptr;
    self.put(epfd, known);
  }
  if (known->set.load(std::memory_order_relaxed) == nullptr) {
    epoll_set* made = sets.take();
    if (made != nullptr) made->open(epfd);
    known->set.store(made, std::memory_order_release);
  }
  return known->set;
}

void note_set(int epfd) noexcept {
  const int saved = errno;
  if (self.is_self() && self.settings().is_enabled) {
    if (endpoint* made = self.make(endpoint::kind_of::epoll)) self.put(epfd, made);
  }
  errno = saved;
}

void close_set(epoll_set* set) noexcept {
  if (set == nullptr) return;
  set->close();
  sets.give_back(set);
}

void note_in_set(int fd) noexcept {
  const int saved = errno;
  if (self.is_self() && is_tcp(fd)) {
    adopt_listener(fd);
    if (self.find(fd) != nullptr) return static_cast<void>(errno = saved);
    if (endpoint* made = self.make(endpoint::kind_of::in_kernel_set)) self.put(fd, made);
  }
  errno = saved;
}

void sync_members_slow(endpoint& of, std::uint32_t state) noexcept {
  const std::uint32_t before = of.synced.exchange(state, std::memory_order_relaxed);
  const bool is_receiving = (before ^ state) == receives_in_memory;
  for (member* at = of.members.load(std::memory_order_acquire); at != nullptr;) {
    member* next = at->next_of_stream;
    if (epoll_set* set = at->set) is_receiving ? set->follow_receiving(*at) : set->follow(*at);
    at = next;
  }
}

void leave_sets(endpoint& of) noexcept {
  while (member* at = of.members.load(std::memory_order_acquire)) {
    if (at->set == nullptr) break;
    at->set->forget(*at);
  }
}

void forget_descriptor(endpoint& of, int fd) noexcept {
  // Who else has the socket keeps it open, and with it what the kernel's set knows.
  const bool is_shared = of.descriptors.load(std::memory_order_relaxed) > 1 ||
                         of.was_shared.load(std::memory_order_relaxed);
  for (member* at = of.members.load(std::memory_order_acquire); at != nullptr;) {
    member* next = at->next_of_stream;
    if (at->fd == fd && at->set != nullptr) at->set->leave(*at, is_shared);
    at = next;
  }
}

}  // namespace shim
