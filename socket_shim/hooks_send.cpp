// SPDX-License-Identifier: Apache-2.0
// Hooks: bytes that go. Not a live stream: the libc call. A live one: io.cpp.
#include <socket_shim/hook.hpp>

#include <socket_shim/arguments.hpp>
#include <socket_shim/io.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

using shim::not_ours;
using shim::pinned;
using shim::real;
using shim::self;
using shim::stream_for;

namespace {

int fail(int code) noexcept {
  errno = code;
  return -1;
}

// `size`: of all parts.
ssize_t transmit_parts(int fd, const iovec* parts, std::size_t count, std::size_t size, int flags) {
  const smcd::buffers from = shim::list(parts, count);
  if (const ssize_t sent = shim::transmit_short(fd, from, size, flags); sent > 0) return sent;
  const pinned known = stream_for(fd, size, flags);
  return known ? shim::transmit(*known, fd, from, flags) : not_ours;
}

// Before a message leaves. Descriptors travel to another process, which may know
// nothing of us; and what else stands there is the kernel's business.
void follow_control(int fd, const msghdr* message) noexcept {
  if (!shim::is_readable(message, sizeof *message) || message->msg_controllen == 0) return;
  shim::for_each_passed(*message, [](int passed) noexcept {
    self.give_to_kernel(passed, shim::process::after_leaving::drains);
  });
  self.retire(fd);
}

}  // namespace

SHIM_HOOK ssize_t write(int fd, const void* from, std::size_t size) {
  if (const ssize_t sent = shim::transmit_short(fd, from, size, 0); sent > 0) return sent;
  if (const pinned known = stream_for(fd, from, size, 0); known && size <= SSIZE_MAX) {
    const iovec part{const_cast<void*>(from), std::min(size, shim::most_at_once)};
    const ssize_t sent = shim::transmit(*known, fd, {&part, 1}, 0);
    if (sent != not_ours) return sent;
  }
  return real.write(fd, from, size);
}
SHIM_HOOK ssize_t __write(int, const void*, std::size_t) __attribute__((alias("write")));

SHIM_HOOK ssize_t send(int fd, const void* from, std::size_t size, int flags) {
  if (const ssize_t sent = shim::transmit_short(fd, from, size, flags); sent > 0) return sent;
  if (const pinned known = stream_for(fd, from, size, flags)) {
    const iovec part{const_cast<void*>(from), std::min(size, shim::most_at_once)};
    const ssize_t sent = shim::transmit(*known, fd, {&part, 1}, flags);
    if (sent != not_ours) return sent;
  }
  return real.send(fd, from, size, flags);
}
SHIM_HOOK ssize_t __send(int, const void*, std::size_t, int) __attribute__((alias("send")));

SHIM_HOOK ssize_t sendto(int fd, const void* from, std::size_t size, int flags, const sockaddr* to,
                         socklen_t to_size) {
  // TCP looks at the address, and then does not use it.
  const bool is_sound =
      to == nullptr || (to_size <= sizeof(sockaddr_storage) && shim::is_readable(to, to_size));
  if (const pinned known = stream_for(fd, from, is_sound ? size : 0, flags)) {
    const iovec part{const_cast<void*>(from), std::min(size, shim::most_at_once)};
    const ssize_t sent = shim::transmit(*known, fd, {&part, 1}, flags);
    if (sent != not_ours) return sent;
  }
  return real.sendto(fd, from, size, flags, to, to_size);
}

SHIM_HOOK ssize_t writev(int fd, const iovec* parts, int count) {
  const auto parts_count = static_cast<std::size_t>(std::max(count, 0));
  if (self.find(fd) != nullptr) {
    const ssize_t sent =
        transmit_parts(fd, parts, parts_count, shim::size_of(parts, parts_count), 0);
    if (sent != not_ours) return sent;
  }
  return real.writev(fd, parts, count);
}

SHIM_HOOK ssize_t pwritev64v2(int fd, const iovec* parts, int count, off64_t at, int flags) {
  const auto parts_count = static_cast<std::size_t>(std::max(count, 0));
  if (int as_send = 0; at == -1 && self.find(fd) != nullptr) {
    const std::size_t size = shim::size_of(parts, parts_count);
    if (!shim::flags_of_rw(flags, as_send) && stream_for(fd, size, 0)) return fail(EOPNOTSUPP);
    const ssize_t sent = transmit_parts(fd, parts, parts_count, size, as_send);
    if (sent != not_ours) return sent;
  }
  return real.pwritev2(fd, parts, count, at, flags);
}
SHIM_HOOK ssize_t pwritev2(int, const iovec*, int, off_t, int)
    __attribute__((alias("pwritev64v2")));

SHIM_HOOK ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  follow_control(fd, message);
  if (self.find(fd) != nullptr) {
    const std::size_t size = shim::size_of(message);
    const ssize_t sent = size == shim::unsound ? not_ours
                                               : transmit_parts(fd, message->msg_iov,
                                                                message->msg_iovlen, size, flags);
    if (sent != not_ours) return sent;
  }
  return real.sendmsg(fd, message, flags);
}

SHIM_HOOK int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  const unsigned most = std::min<unsigned>(count, IOV_MAX);
  if (!self.find_live(fd) || count == 0) {
    for (unsigned i = 0; i < most && shim::is_readable(&messages[i], sizeof *messages); ++i) {
      follow_control(fd, &messages[i].msg_hdr);
    }
    return real.sendmmsg(fd, messages, count, flags);
  }
  const int saved = errno;
  unsigned done = 0;
  for (; done < most; ++done) {
    mmsghdr* const here = &messages[done];
    const ssize_t sent =
        shim::is_writable(here, sizeof *here) ? sendmsg(fd, &here->msg_hdr, flags) : fail(EFAULT);
    if (sent < 0) break;
    here->msg_len = static_cast<unsigned>(sent);
  }
  if (done == 0) return -1;
  errno = saved;
  return static_cast<int>(done);
}
SHIM_HOOK int __sendmmsg(int, mmsghdr*, unsigned, int) __attribute__((alias("sendmmsg")));

// ---- from and to other files -----------------------------------------------

SHIM_HOOK ssize_t sendfile64(int fd, int from, off64_t* offset, std::size_t count) noexcept {
  if (const pinned known = stream_for(fd, count, 0); known && count <= SSIZE_MAX) {
    const ssize_t sent = shim::transmit_file(*known, fd, from, offset, count);
    if (sent != not_ours) return sent;
  }
  return real.sendfile(fd, from, offset, count);
}
SHIM_HOOK ssize_t sendfile(int, int, off_t*, std::size_t) __attribute__((alias("sendfile64")));

// Into a stream: over the TCP lane, where the kernel moves pages. Out of one: by
// copies, once it has left TCP.
SHIM_HOOK ssize_t splice(int from, off64_t* from_offset, int to, off64_t* to_offset,
                         std::size_t size, unsigned flags) {
  self.retire(to);
  if (const pinned known = self.find_live(from); known && size > 0) {
    if (!known->link.is_established()) {
      self.retire(from);
    } else if (from_offset == nullptr && to_offset == nullptr) {
      const ssize_t moved = shim::receive_to_pipe(*known, from, to, size, flags);
      if (moved != not_ours) return moved;
    }
  }
  return real.splice(from, from_offset, to, to_offset, size, flags);
}
