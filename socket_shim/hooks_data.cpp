// SPDX-License-Identifier: Apache-2.0
// Hooks: bytes. Not a live stream: the libc call. A live stream: io.cpp.
#include <socket_shim/hook.hpp>

#include <socket_shim/io.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

using shim::endpoint;
using shim::pinned;
using shim::real;
using shim::self;

namespace {

// Flags that only the kernel's TCP can serve, and calls without a byte: whose
// answers are the kernel's.
constexpr int kernel_only = MSG_OOB | MSG_ERRQUEUE | MSG_ZEROCOPY | MSG_FASTOPEN;

pinned stream_for(int fd, std::size_t size, int flags) noexcept {
  pinned known = self.find_live(fd);
  if (!known || size == 0) [[likely]]
    return {};
  if ((flags & kernel_only) != 0) {
    if ((flags & MSG_ERRQUEUE) == 0) self.retire(fd);
    return {};
  }
  return known;
}

smcd::buffers list(const iovec* parts, std::size_t count) noexcept { return {parts, count}; }

std::size_t size_of(const iovec* parts, int count) noexcept {
  if (parts == nullptr || count <= 0 || count > IOV_MAX) return 0;  // the kernel says what is wrong
  return smcd::total_size(list(parts, static_cast<std::size_t>(count)));
}
std::size_t size_of(const msghdr* message) noexcept {
  return message == nullptr ? 0 : size_of(message->msg_iov, static_cast<int>(message->msg_iovlen));
}

// Waits as any recv, then takes nothing. (read of nothing does not wait.)
ssize_t receive_nothing(endpoint& from, int fd, int flags) {
  std::byte one{};
  const iovec part{&one, 1};
  return std::min<ssize_t>(0, shim::receive(from, fd, {&part, 1}, flags | MSG_PEEK));
}

// Descriptors that travel to another process, which may know nothing of us.
void give_away_passed(const msghdr* message) noexcept {
  if (message->msg_control == nullptr) return;
  auto* at = CMSG_FIRSTHDR(message);
  for (; at != nullptr; at = CMSG_NXTHDR(const_cast<msghdr*>(message), at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      self.give_to_kernel(reinterpret_cast<int*>(CMSG_DATA(at))[i]);
    }
  }
}

}  // namespace

// ---- receiving -------------------------------------------------------------

SHIM_HOOK ssize_t read(int fd, void* to, std::size_t size) {
  const pinned known = stream_for(fd, size, 0);
  if (!known) return real.read(fd, to, size);
  const iovec part{to, size};
  return shim::receive(*known, fd, {&part, 1}, 0);
}

SHIM_HOOK ssize_t __read_chk(int fd, void* to, std::size_t size, std::size_t room) {
  if (size > room) __builtin_trap();
  return read(fd, to, size);
}

SHIM_HOOK ssize_t recv(int fd, void* to, std::size_t size, int flags) {
  const pinned known = stream_for(fd, std::max<std::size_t>(size, 1), flags);
  if (!known) return real.recv(fd, to, size, flags);
  if (size == 0) return receive_nothing(*known, fd, flags);
  const iovec part{to, size};
  return shim::receive(*known, fd, {&part, 1}, flags);
}

SHIM_HOOK ssize_t __recv_chk(int fd, void* to, std::size_t size, std::size_t room, int flags) {
  if (size > room) __builtin_trap();
  return recv(fd, to, size, flags);
}

SHIM_HOOK ssize_t recvfrom(int fd, void* to, std::size_t size, int flags, sockaddr* from,
                           socklen_t* from_size) {
  const pinned known = stream_for(fd, std::max<std::size_t>(size, 1), flags);
  if (!known) return real.recvfrom(fd, to, size, flags, from, from_size);
  const iovec part{to, size};
  const ssize_t got =
      size == 0 ? receive_nothing(*known, fd, flags) : shim::receive(*known, fd, {&part, 1}, flags);
  // TCP leaves the address alone, but says that it has none.
  if (got >= 0 && from != nullptr && from_size != nullptr) *from_size = 0;
  return got;
}

SHIM_HOOK ssize_t __recvfrom_chk(int fd, void* to, std::size_t size, std::size_t room, int flags,
                                 sockaddr* from, socklen_t* from_size) {
  if (size > room) __builtin_trap();
  return recvfrom(fd, to, size, flags, from, from_size);
}

SHIM_HOOK ssize_t readv(int fd, const iovec* parts, int count) {
  const pinned known = stream_for(fd, size_of(parts, count), 0);
  if (!known) return real.readv(fd, parts, count);
  return shim::receive(*known, fd, list(parts, static_cast<std::size_t>(count)), 0);
}

SHIM_HOOK ssize_t preadv64v2(int fd, const iovec* parts, int count, off64_t at, int flags) {
  const pinned known = at == -1 && flags == 0 ? stream_for(fd, size_of(parts, count), 0) : pinned();
  if (!known) return real.preadv2(fd, parts, count, at, flags);
  return shim::receive(*known, fd, list(parts, static_cast<std::size_t>(count)), 0);
}

SHIM_HOOK ssize_t preadv2(int fd, const iovec* parts, int count, off_t at, int flags) {
  return preadv64v2(fd, parts, count, at, flags);
}

SHIM_HOOK ssize_t recvmsg(int fd, msghdr* message, int flags) {
  const pinned known = stream_for(fd, size_of(message), flags);
  if (!known) return real.recvmsg(fd, message, flags);
  const ssize_t got = shim::receive(*known, fd, list(message->msg_iov, message->msg_iovlen), flags);
  if (got >= 0) {
    message->msg_namelen = 0;
    message->msg_controllen = 0;
    message->msg_flags = 0;
  }
  return got;
}

SHIM_HOOK int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!self.find_live(fd) || messages == nullptr || count == 0) {
    return real.recvmmsg(fd, messages, count, flags, timeout);
  }
  unsigned done = 0;
  for (; done < count; ++done) {
    const bool waits = done == 0 || (flags & MSG_WAITFORONE) == 0;
    const ssize_t got = recvmsg(fd, &messages[done].msg_hdr,
                                (flags & ~MSG_WAITFORONE) | (waits ? 0 : MSG_DONTWAIT));
    if (got < 0) break;
    messages[done].msg_len = static_cast<unsigned>(got);
    if (got == 0) {
      ++done;
      break;
    }
  }
  return done > 0 ? static_cast<int>(done) : -1;
}

// ---- sending ---------------------------------------------------------------

SHIM_HOOK ssize_t write(int fd, const void* from, std::size_t size) {
  const pinned known = stream_for(fd, size, 0);
  if (!known) return real.write(fd, from, size);
  const iovec part{const_cast<void*>(from), size};
  return shim::transmit(*known, fd, {&part, 1}, 0);
}

SHIM_HOOK ssize_t send(int fd, const void* from, std::size_t size, int flags) {
  const pinned known = stream_for(fd, size, flags);
  if (!known) return real.send(fd, from, size, flags);
  const iovec part{const_cast<void*>(from), size};
  return shim::transmit(*known, fd, {&part, 1}, flags);
}

SHIM_HOOK ssize_t sendto(int fd, const void* from, std::size_t size, int flags, const sockaddr* to,
                         socklen_t to_size) {
  const pinned known = stream_for(fd, size, flags);
  if (!known) return real.sendto(fd, from, size, flags, to, to_size);
  const iovec part{const_cast<void*>(from), size};
  return shim::transmit(*known, fd, {&part, 1}, flags);
}

SHIM_HOOK ssize_t writev(int fd, const iovec* parts, int count) {
  const pinned known = stream_for(fd, size_of(parts, count), 0);
  if (!known) return real.writev(fd, parts, count);
  return shim::transmit(*known, fd, list(parts, static_cast<std::size_t>(count)), 0);
}

SHIM_HOOK ssize_t pwritev64v2(int fd, const iovec* parts, int count, off64_t at, int flags) {
  const pinned known = at == -1 && flags == 0 ? stream_for(fd, size_of(parts, count), 0) : pinned();
  if (!known) return real.pwritev2(fd, parts, count, at, flags);
  return shim::transmit(*known, fd, list(parts, static_cast<std::size_t>(count)), 0);
}

SHIM_HOOK ssize_t pwritev2(int fd, const iovec* parts, int count, off_t at, int flags) {
  return pwritev64v2(fd, parts, count, at, flags);
}

SHIM_HOOK ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  if (message != nullptr && message->msg_controllen > 0) give_away_passed(message);
  const pinned known = stream_for(fd, size_of(message), flags);
  if (!known) return real.sendmsg(fd, message, flags);
  return shim::transmit(*known, fd, list(message->msg_iov, message->msg_iovlen), flags);
}

SHIM_HOOK int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (!self.find_live(fd) || messages == nullptr || count == 0) {
    return real.sendmmsg(fd, messages, count, flags);
  }
  unsigned done = 0;
  for (; done < count; ++done) {
    const ssize_t sent = sendmsg(fd, &messages[done].msg_hdr, flags);
    if (sent < 0) break;
    messages[done].msg_len = static_cast<unsigned>(sent);
  }
  return done > 0 ? static_cast<int>(done) : -1;
}

SHIM_HOOK ssize_t sendfile64(int fd, int from, off64_t* offset, std::size_t count) {
  const pinned known = stream_for(fd, count, 0);
  if (!known) return real.sendfile(fd, from, offset, count);
  return shim::transmit_file(*known, fd, from, offset, count);
}

SHIM_HOOK ssize_t sendfile(int fd, int from, off_t* offset, std::size_t count) {
  return sendfile64(fd, from, offset, count);
}

// Into a stream: over the TCP lane. Out of one: the kernel cannot, and says so
// in the way it does for descriptors without splice.
SHIM_HOOK ssize_t splice(int from, off64_t* from_offset, int to, off64_t* to_offset,
                         std::size_t size, unsigned flags) {
  self.retire(to);
  if (const pinned known = self.find_live(from)) {
    if (known->link.is_established()) {
      errno = EINVAL;
      return -1;
    }
    self.retire(from);
  }
  return real.splice(from, from_offset, to, to_offset, size, flags);
}
