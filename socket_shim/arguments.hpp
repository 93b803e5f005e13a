// SPDX-License-Identifier: Apache-2.0
#pragma once
// What programs pass, right or wrong. Whatever looks wrong goes to the kernel,
// which knows the errno for it.

#include <smcd/ring.hpp>
#include <socket_shim/memory.hpp>
#include <socket_shim/process.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <climits>
#include <cstdint>

namespace shim {

// No call moves more.
inline constexpr std::size_t most_at_once = 0x7FFFF000;

// Flags that only the kernel's TCP can serve.
inline constexpr int kernel_only = MSG_OOB | MSG_ERRQUEUE | MSG_ZEROCOPY | MSG_FASTOPEN;

// Addresses that no program can have; the kernel refuses them before it looks
// for bytes.
[[nodiscard]] inline bool is_possible(const void* at) noexcept {
  return reinterpret_cast<std::intptr_t>(at) >= 0;
}

// Bytes in these buffers, but at most `most_at_once`; or `unsound`: the kernel
// refuses them, whatever waits in the socket. Only then may it be asked.
inline constexpr std::size_t unsound = SIZE_MAX;
[[nodiscard]] std::size_t size_of(const iovec* parts, std::size_t count) noexcept;
[[nodiscard]] std::size_t size_of(const msghdr* message) noexcept;

// The live stream whose bytes a call of this size and flags moves; or none, and
// the kernel's call is right. It is also for calls without a byte.
[[nodiscard]] inline pinned stream_for(int fd, std::size_t size, int flags) noexcept {
  pinned known = self.find_live(fd);
  if (!known || size == 0 || size == unsound) [[likely]]
    return {};
  if ((flags & kernel_only) != 0) {
    if ((flags & MSG_ERRQUEUE) == 0) {
      // Bytes that we do not count must not come before a message of ours.
      known->link.is_established() ? self.retire(fd)
                                   : self.give_to_kernel(fd, process::after_leaving::is_over);
    }
    return {};
  }
  return known;
}
[[nodiscard]] inline pinned stream_for(int fd, const void* at, std::size_t size,
                                       int flags) noexcept {
  return stream_for(fd, is_possible(at) ? std::min(size, most_at_once) : unsound, flags);
}

[[nodiscard]] inline smcd::buffers list(const iovec* parts, std::size_t count) noexcept {
  return {parts, count};
}

// RWF_... of preadv2 and pwritev2 as MSG_..., or nothing if a socket knows them not.
[[nodiscard]] inline bool flags_of_rw(int flags, int& to) noexcept {
  constexpr int hipri = 1, dsync = 2, sync = 4, nowait = 8, append = 16, noappend = 32;
  to = (flags & nowait) != 0 ? MSG_DONTWAIT : 0;
  return (flags & ~(hipri | dsync | sync | nowait | append | noappend)) == 0;
}

// Calls `visit` with each descriptor that a message carries (SCM_RIGHTS).
template <class Visit>
void for_each_passed(const msghdr& message, Visit visit) noexcept {
  if (message.msg_control == nullptr || !is_readable(message.msg_control, message.msg_controllen)) {
    return;
  }
  const auto* end = static_cast<const unsigned char*>(message.msg_control) + message.msg_controllen;
  auto* at = CMSG_FIRSTHDR(&message);
  for (; at != nullptr; at = CMSG_NXTHDR(const_cast<msghdr*>(&message), at)) {
    const unsigned char* first = CMSG_DATA(at);
    if (at->cmsg_len < CMSG_LEN(0) ||
        static_cast<std::size_t>(end - first) < at->cmsg_len - CMSG_LEN(0))
      return;
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) visit(reinterpret_cast<const int*>(first)[i]);
  }
}

}  // namespace shim
