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

}  // namespace

void publish_listener(int fd) noexcept {
  const dibs::cancel_shield not_cancelled;
  dibs::inet_address address;
  const endpoint* known = self.find(fd);
  if (!self.is_self() || !local_address(fd, address) || !is_tcp(fd) ||
      (known != nullptr && known->kind != endpoint::kind_of::in_kernel_set)) {
    return;
  }
  smcd::stack* stack = self.stack();
  endpoint* made = stack != nullptr ? self.make(endpoint::kind_of::listener) : nullptr;
  if (made == nullptr) return;
  made->owner_pid = self.pid();
  made->listener = stack->meeting().publish_listener(netns_of(fd), address, stack->self().gid);
  self.put(fd, made);
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
  const endpoint* known = self.find(listener);
  smcd::stack* stack = nullptr;
  if (known != nullptr && known->kind == endpoint::kind_of::listener && self.trusts_numbers()) {
    stack = self.stack();
  }
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
  dibs::inet_address remote;
  if (known->listener != nullptr && dibs::from_sockaddr(generic, address_size, remote)) {
    if (endpoint* made = make_stream(*stack, smcd::handshake_role::server, remote, true)) {
      made->modes.store((flags & SOCK_NONBLOCK) != 0 ? endpoint::non_blocking : endpoint::blocking,
                        std::memory_order_relaxed);
      self.put(accepted, made);
    }
  }
  errno = saved;
  return accepted;
}

}  // namespace shim
