// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/meet.hpp>

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
endpoint* make_stream(smcd::handshake_role role, const smcd::socket_name& name,
                      bool may_switch) noexcept {
  endpoint* made = self.make(endpoint::kind_of::stream);
  if (made == nullptr) return nullptr;
  made->link.open(*self.stack(), role, name, may_switch, decline_code::peer_no_smc, false);
  if (made->link.is_open()) return made;
  self.discard(made);
  return nullptr;
}

// Connecting to 0.0.0.0 or :: reaches this machine's loopback address.
dibs::inet_address reached(dibs::inet_address asked) noexcept {
  if (!asked.is_any()) return asked;
  asked.bytes.back() = 1;
  if (asked.is_v4()) asked.bytes[12] = 127;
  return asked;
}

}  // namespace

void publish_listener(int fd) noexcept {
  dibs::inet_address address;
  const endpoint* known = self.find(fd);
  if (!self.is_self() || !local_address(fd, address) || !is_tcp(fd) ||
      (known != nullptr && known->kind != endpoint::kind_of::in_kernel_set)) {
    return;
  }
  smcd::stack* stack = self.stack();
  endpoint* made = stack != nullptr ? self.make(endpoint::kind_of::listener) : nullptr;
  if (made == nullptr) return;
  made->netns = netns_of(fd);
  made->address = address;
  made->owner_pid = self.pid();
  made->listener = stack->meeting().publish_listener(made->netns, address, stack->self().gid);
  self.put(fd, made);
}

int connect_stream(int fd, const sockaddr* to, socklen_t size) noexcept {
  smcd::socket_name name;
  const bool is_inet = dibs::from_sockaddr(to, size, name.remote);
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
  const bool is_in_set = known != nullptr && known->kind == endpoint::kind_of::in_kernel_set;
  const int before = errno;
  smcd::stack* stack = is_inet && is_tcp(fd) ? self.stack() : nullptr;
  if (stack == nullptr) {
    errno = before;
    return real.connect(fd, to, size);
  }
  name.remote = reached(name.remote);
  name.netns = netns_of(fd);
  // What the kernel's set tells of is TCP only.
  if (!is_in_set) name.listener = stack->meeting().expect(name.netns, name.remote);
  errno = before;
  const int answer = real.connect(fd, to, size);
  const int code = errno;
  const bool is_under_way = answer == 0 || code == EINPROGRESS || code == EINTR;
  endpoint* made = nullptr;
  if (is_under_way && local_address(fd, name.local)) {
    made = make_stream(smcd::handshake_role::client, name,
                       name.listener && !name.local.is_link_local());
  }
  if (made != nullptr) {
    self.put(fd, made);
  } else {
    stack->meeting().stop_expecting(name.listener);
  }
  errno = code;
  return answer;
}

int accept_stream(int listener, sockaddr* from, socklen_t* size, int flags) noexcept {
  const endpoint* known = self.find(listener);
  smcd::stack* stack = nullptr;
  if (known != nullptr && known->kind == endpoint::kind_of::listener) {
    stack = self.stack();
  }
  if (stack == nullptr) {
    const int accepted = real.accept4(listener, from, size, flags);
    if (accepted >= 0 && self.find(accepted) != nullptr) self.drop_stale(accepted);
    return accepted;
  }
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
  if (self.find(accepted) != nullptr) self.drop_stale(accepted);
  smcd::socket_name name;
  name.netns = known->netns;
  name.local = known->address;
  if (dibs::from_sockaddr(generic, address_size, name.remote) &&
      (!known->address.is_any() || local_address(accepted, name.local))) {
    name.listener = stack->meeting().ref_of(known->listener);
    // In this order: a client's record comes before it is no longer expected.
    const bool may_switch =
        !name.local.is_link_local() &&
        (stack->meeting().expects(name.listener) ||
         stack->meeting().find({name.netns, name.remote, name.local}).at != nullptr);
    if (endpoint* made = make_stream(smcd::handshake_role::server, name, may_switch)) {
      made->modes.store((flags & SOCK_NONBLOCK) != 0 ? endpoint::non_blocking : endpoint::blocking,
                        std::memory_order_relaxed);
      self.put(accepted, made);
    }
  }
  errno = saved;
  return accepted;
}

}  // namespace shim
