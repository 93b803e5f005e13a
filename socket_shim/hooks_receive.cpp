// SPDX-License-Identifier: Apache-2.0
// Hooks: bytes that come. Not a live stream: the libc call. A live one: io.cpp.
#include <socket_shim/hook.hpp>

#include <socket_shim/arguments.hpp>
#include <socket_shim/io.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/wait.hpp>

#include <fcntl.h>
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

// Waits as any recv, then takes nothing. (read of nothing does not wait.)
ssize_t receive_nothing(int fd, void* to, int flags) noexcept {
  if (const pinned known = stream_for(fd, 1, flags)) {
    std::byte one{};
    const iovec part{&one, 1};
    const int saved = errno;
    const ssize_t got = shim::receive(*known, fd, {&part, 1}, flags | MSG_PEEK);
    // A wait for nothing that lasted too long is a success.
    const bool has_waited = got == -1 && errno == EAGAIN && (flags & MSG_DONTWAIT) == 0 &&
                            (real.fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
    if (has_waited) errno = saved;
    if (got != not_ours) return has_waited ? 0 : std::min<ssize_t>(0, got);
  }
  return real.recv(fd, to, std::size_t{0}, flags);
}

ssize_t receive_parts(pinned known, int fd, const iovec* parts, std::size_t count,
                      int flags) noexcept {
  return known ? shim::receive(*known, fd, shim::list(parts, count), flags) : not_ours;
}

// Descriptors that came with a message: their numbers are new.
void note_passed(const msghdr& message) noexcept {
  if (message.msg_controllen == 0) return;
  shim::for_each_passed(message, [](int fd) noexcept { self.fresh(fd); });
}

}  // namespace

SHIM_HOOK ssize_t read(int fd, void* to, std::size_t size) {
  if (const ssize_t got = shim::receive_short(fd, to, size, 0); got > 0) return got;
  if (const pinned known = stream_for(fd, to, size, 0); known && size <= SSIZE_MAX) {
    const iovec part{to, size};
    const ssize_t got = shim::receive(*known, fd, {&part, 1}, 0);
    if (got != not_ours) return got;
  }
  return real.read(fd, to, size);
}
SHIM_HOOK ssize_t __read(int, void*, std::size_t) __attribute__((alias("read")));

SHIM_HOOK ssize_t __read_chk(int fd, void* to, std::size_t size, std::size_t room) {
  if (size > room) __builtin_trap();
  return read(fd, to, size);
}

SHIM_HOOK ssize_t recv(int fd, void* to, std::size_t size, int flags) {
  if (const ssize_t got = shim::receive_short(fd, to, size, flags); got > 0) return got;
  if (size == 0) return receive_nothing(fd, to, flags);
  if (const pinned known = stream_for(fd, to, size, flags)) {
    const iovec part{to, std::min(size, shim::most_at_once)};
    const ssize_t got = shim::receive(*known, fd, {&part, 1}, flags);
    if (got != not_ours) return got;
  }
  return real.recv(fd, to, size, flags);
}
SHIM_HOOK ssize_t __recv(int, void*, std::size_t, int) __attribute__((alias("recv")));

SHIM_HOOK ssize_t __recv_chk(int fd, void* to, std::size_t size, std::size_t room, int flags) {
  if (size > room) __builtin_trap();
  return recv(fd, to, size, flags);
}

SHIM_HOOK ssize_t recvfrom(int fd, void* to, std::size_t size, int flags, sockaddr* from,
                           socklen_t* from_size) {
  if (!stream_for(fd, to, std::max<std::size_t>(size, 1), flags)) {
    return real.recvfrom(fd, to, size, flags, from, from_size);
  }
  const ssize_t got = recv(fd, to, size, flags);
  if (got < 0 || from == nullptr) return got;
  // TCP leaves the address alone, but says that it has none.
  if (!shim::is_writable(from_size, sizeof *from_size)) return fail(EFAULT);
  if (static_cast<int>(*from_size) < 0) return fail(EINVAL);
  *from_size = 0;
  return got;
}

SHIM_HOOK ssize_t __recvfrom_chk(int fd, void* to, std::size_t size, std::size_t room, int flags,
                                 sockaddr* from, socklen_t* from_size) {
  if (size > room) __builtin_trap();
  return recvfrom(fd, to, size, flags, from, from_size);
}

SHIM_HOOK ssize_t readv(int fd, const iovec* parts, int count) {
  const auto parts_count = static_cast<std::size_t>(std::max(count, 0));
  if (self.find(fd) != nullptr) {
    const ssize_t got = receive_parts(stream_for(fd, shim::size_of(parts, parts_count), 0), fd,
                                      parts, parts_count, 0);
    if (got != not_ours) return got;
  }
  return real.readv(fd, parts, count);
}

SHIM_HOOK ssize_t preadv64v2(int fd, const iovec* parts, int count, off64_t at, int flags) {
  const auto parts_count = static_cast<std::size_t>(std::max(count, 0));
  if (int as_recv = 0; at == -1 && self.find(fd) != nullptr) {
    pinned known = stream_for(fd, shim::size_of(parts, parts_count), 0);
    if (known && !shim::flags_of_rw(flags, as_recv)) return fail(EOPNOTSUPP);
    const ssize_t got = receive_parts(std::move(known), fd, parts, parts_count, as_recv);
    if (got != not_ours) return got;
  }
  return real.preadv2(fd, parts, count, at, flags);
}
SHIM_HOOK ssize_t preadv2(int, const iovec*, int, off_t, int) __attribute__((alias("preadv64v2")));

namespace {

// As the kernel fills in a message from TCP, which has neither names nor control
// data. It does so last, when the bytes are gone.
ssize_t complete(msghdr* message, ssize_t got, int flags) noexcept {
  if (got < 0) return got;
  if (!shim::is_writable(message, sizeof *message)) return fail(EFAULT);
  if (message->msg_name != nullptr) message->msg_namelen = 0;
  message->msg_controllen = 0;
  message->msg_flags = flags & MSG_CMSG_CLOEXEC;
  return got;
}

}  // namespace

SHIM_HOOK ssize_t recvmsg(int fd, msghdr* message, int flags) {
  if (self.find(fd) != nullptr) {
    const std::size_t size = shim::size_of(message);
    if (size == 0 && stream_for(fd, 1, flags)) {
      return complete(message, receive_nothing(fd, nullptr, flags), flags);
    }
    if (pinned known = stream_for(fd, size, flags)) {
      const ssize_t got =
          receive_parts(std::move(known), fd, message->msg_iov, message->msg_iovlen, flags);
      if (got != not_ours) return complete(message, got, flags);
    }
  }
  const ssize_t got = real.recvmsg(fd, message, flags);
  if (got >= 0) note_passed(*message);
  return got;
}

SHIM_HOOK int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!self.find_live(fd) || count == 0 || (timeout != nullptr && !shim::is_time(timeout))) {
    const int got = real.recvmmsg(fd, messages, count, flags, timeout);
    for (int i = 0; i < got; ++i) note_passed(messages[i].msg_hdr);
    return got;
  }
  // The time is looked at after a message, and ends no wait for one.
  const shim::deadline until = shim::deadline::after(timeout);
  const unsigned most = std::min<unsigned>(count, IOV_MAX);
  const int saved = errno;
  // This call alone tells of an error before it gives what came before it.
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0) return fail(error);
  unsigned done = 0;
  while (done < most) {
    mmsghdr* const here = &messages[done];
    const bool waits = done == 0 || (flags & MSG_WAITFORONE) == 0;
    const ssize_t got =
        shim::is_writable(here, sizeof *here)
            ? recvmsg(fd, &here->msg_hdr, (flags & ~MSG_WAITFORONE) | (waits ? 0 : MSG_DONTWAIT))
            : fail(EFAULT);
    if (got < 0) break;
    here->msg_len = static_cast<unsigned>(got);
    ++done;
    if (timeout != nullptr && until.is_over()) break;
  }
  if (done == 0) return -1;
  if (timeout != nullptr) *timeout = until.left();
  errno = saved;
  return static_cast<int>(done);
}
