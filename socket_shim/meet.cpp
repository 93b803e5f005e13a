// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/meet.hpp>

#include <devices/chaos.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace shim {
namespace {

using smcd::decline_code;

// Null if there is no room; the connection then is TCP and nothing to us.
endpoint* make_stream(smcd::stack& on, smcd::handshake_role role, const dibs::inet_address& remote,
                      bool may_meet) noexcept {
  if (dibs::chaos::one_in(32)) return nullptr;
  endpoint* made = self.make(endpoint::kind_of::stream);
  if (made != nullptr) made->link.open(on, role, remote, may_meet, false);
  return made;
}

// Tells clients that whoever accepts here speaks SMC-D. Other processes may hold
// the same listener, and each that accepts says so, until enough do: then the end
// of one of them changes nothing. An entry is a hint. If nobody accepts any more
// who speaks SMC-D, nobody joins its client's records, and all is TCP.
void announce(endpoint& listener, int fd) noexcept {
  constexpr std::uint32_t enough = 2;  // 8 entries is all that listeners of one port have
  dibs::inet_address address;
  smcd::stack* stack = local_address(fd, address) && is_tcp(fd) ? self.stack() : nullptr;
  if (stack == nullptr) return;
  const std::uint64_t netns = netns_of(fd);
  const auto [count, one] = stack->meeting().find_sharers(netns, address);
  dibs::listener_entry* entry = nullptr;
  if (count < enough) {
    entry = stack->meeting().publish_listener(netns, address, stack->self().gid);
  }
  listener.owner_pid = entry != nullptr ? self.pid() : 0;
  if (entry == nullptr) entry = one;
  listener.listener_state.store(entry != nullptr ? entry->state.load() : 0,
                                std::memory_order_relaxed);
  listener.listener.store(entry, std::memory_order_release);
}

// The listener of ours behind fd, as clients know it, or null.
endpoint* listener_behind(int fd) noexcept {
  endpoint* known = self.find(fd);
  if (known == nullptr) [[unlikely]] {
    adopt_listener(fd);
    known = self.find(fd);
  }
  return known != nullptr && known->kind == endpoint::kind_of::listener &&
                 known->listener.load(std::memory_order_relaxed) != nullptr
             ? known
             : nullptr;
}

// Whoever announced it is gone, and clients know nothing of it any more.
void announce_again(endpoint& listener, int fd) noexcept {
  const dibs::shielded_guard guard(self.first_use());
  if (self.is_self() && self.find(fd) == &listener && !listener.is_announced()) {
    announce(listener, fd);
  }
}

}  // namespace

void publish_listener(int fd) noexcept {
  const dibs::shielded_guard guard(self.first_use());
  const endpoint* known = self.find(fd);
  if (!self.settings().is_enabled || !self.is_self() ||
      (known != nullptr && known->kind != endpoint::kind_of::in_kernel_set)) {
    return;
  }
  endpoint* made = self.make(endpoint::kind_of::listener);
  if (made == nullptr) return;
  announce(*made, fd);
  self.put(fd, made);
}

void adopt_listener(int fd) noexcept {
  const int saved = errno;
  if (self.settings().is_enabled && is_listening(fd)) publish_listener(fd);
  errno = saved;
}

int connect_stream(int fd, const sockaddr* to, socklen_t size) {
  dibs::inet_address remote;
  const bool is_inet = dibs::from_sockaddr(to, size, remote);
  endpoint* known = self.find(fd);
  if (known != nullptr && known->kind == endpoint::kind_of::stream) {
    // A second call asks how the first went. If it failed, or if this call
    // dissolves the association, then what we knew is over: what the socket is
    // connected to later may have other addresses.
    const int answer = real.connect(fd, to, size);
    const int saved = errno;
    const bool is_pending =
        saved == EALREADY || saved == EINPROGRESS || saved == EINTR || saved == EISCONN;
    if (answer == 0 ? !is_inet : !is_pending) self.retire(fd);
    errno = saved;
    return answer;
  }
  // What the kernel's set tells of is TCP only.
  const bool is_in_set = known != nullptr && known->kind == endpoint::kind_of::in_kernel_set;
  const int before = errno;
  const bool is_stream = is_inet && !is_in_set && (self.take_new(fd) || is_tcp(fd));
  smcd::stack* stack = is_stream && self.trusts_numbers() ? self.stack() : nullptr;
  remote = remote.reached();
  const bool may_meet =
      stack != nullptr && stack->may_meet(remote, [fd]() noexcept { return netns_of(fd); });
  errno = before;
  const int answer = real.connect(fd, to, size);
  const int code = errno;
  if (stack != nullptr && (answer == 0 || code == EINPROGRESS || code == EINTR)) {
    endpoint* made = make_stream(*stack, smcd::handshake_role::client, remote, may_meet);
    if (made != nullptr) self.put(fd, made);
  }
  errno = code;
  return answer;
}

int accept_stream(int listener, sockaddr* from, socklen_t* size, int flags) {
  endpoint* known = self.trusts_numbers() ? listener_behind(listener) : nullptr;
  smcd::stack* stack = known != nullptr ? self.stack() : nullptr;
  if (stack == nullptr) return self.fresh(real.accept4(listener, from, size, flags));
  // The address is asked for in any case, with room for all of it.
  sockaddr_storage address{};
  socklen_t address_size = sizeof address;
  if (from != nullptr && (size == nullptr || static_cast<int>(*size) < 0)) {
    errno = size == nullptr ? EFAULT : EINVAL;
    return -1;
  }
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  const int accepted = real.accept4(listener, generic, &address_size, flags);
  if (accepted < 0) return accepted;
  const int saved = errno;
  if (from != nullptr) {
    std::memcpy(from, &address, std::min<std::size_t>(*size, address_size));
    *size = address_size;
  }
  self.fresh(accepted);
  if (!known->is_announced()) [[unlikely]]
    announce_again(*known, listener);
  dibs::inet_address remote;
  if (dibs::from_sockaddr(generic, address_size, remote)) {
    if (endpoint* made = make_stream(*stack, smcd::handshake_role::server, remote, true)) {
      made->modes.store((flags & SOCK_NONBLOCK) != 0 ? endpoint::non_blocking : endpoint::blocking,
                        std::memory_order_relaxed);
      self.put(accepted, made);
    }
  }
  errno = saved;
  return accepted;
}

void resume_stream(int fd, smcd::handshake_role role, std::uint64_t cookie) noexcept {
  std::uint64_t found = 0;
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  dibs::inet_address remote;
  smcd::tcp_count moved;
  tcp_socket tcp(fd);
  if (self.find(fd) != nullptr || !cookie_of(fd, found) || found != cookie ||
      ::getpeername(fd, generic, &size) != 0 || !dibs::from_sockaddr(generic, size, remote) ||
      !tcp.counters(moved.written, moved.read)) {
    return;
  }
  smcd::stack* stack = self.stack();
  if (stack == nullptr) return;
  if (endpoint* made = make_stream(*stack, role, remote, true)) {
    made->link.resume(moved);
    self.put(fd, made);
  }
}

}  // namespace shim
