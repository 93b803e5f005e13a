// SPDX-License-Identifier: Apache-2.0
// Calls that take bytes out of a socket.
#include "bytes.hpp"
#include "player.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

namespace oracle {
namespace {

constexpr std::uint8_t scrap = 0xEE;
constexpr std::size_t most_parts = 8;

struct parts_of {
  std::array<iovec, most_parts> list{};
  int count = 0;
};

// `size` bytes in pieces of growing length, with an empty one among them.
parts_of divide(std::uint8_t* memory, std::size_t size, int wanted) {
  parts_of made;
  const auto count = static_cast<std::size_t>(std::clamp(wanted, 1, static_cast<int>(most_parts)));
  std::size_t at = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const bool is_last = i + 1 == count;
    const std::size_t n = is_last  ? size - at
                          : i == 1 ? 0
                                   : std::min(size - at, size / count / 2 * i + 1);
    made.list[i] = {memory + at, n};
    at += n;
  }
  made.count = static_cast<int>(count);
  return made;
}

// Does the call return, whatever the other steps do? If it is the next one
// that makes it return, that one may begin.
bool returns(call& c, int fd, std::uint64_t size, int flags) {
  const int end = c.book.end_of(fd);
  if (end < 0) return c.book.kind_of(fd) != fd_kind::other;
  const end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  if (of.is_nonblocking || of.has_timeout || (flags & MSG_DONTWAIT) != 0) return true;
  if (c.book.is_over(end)) return true;
  std::uint64_t wanted = 1;
  if ((flags & MSG_WAITALL) != 0) wanted = std::max<std::uint64_t>(size, 1);
  wanted = std::max(wanted, std::min<std::uint64_t>(size, static_cast<std::uint64_t>(of.low_mark)));
  const std::uint64_t unread = c.book.unread(end);
  if (unread >= wanted) return true;
  // Without MSG_WAITALL it would be a race for how much comes.
  const bool is_exact = unread == 0 || (flags & MSG_WAITALL) != 0;
  // Nor is a sleeper woken for less than the low mark, even if it wants less.
  wanted = std::max(wanted, static_cast<std::uint64_t>(of.low_mark));
  if (!c.is_offered || !is_exact || !next_step_feeds(c, end, wanted - unread)) return false;
  c.overlap();
  return true;
}

void count_read(call& c, int end, std::int64_t got, int flags) {
  if (got <= 0 || end < 0 || (flags & MSG_PEEK) != 0) return;
  end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  of.read += static_cast<std::uint64_t>(got);
  ++of.calls;
}

// Hash of what came; where the stream is not what the peer wrote; whether
// bytes beyond it were touched.
void look_at_bytes(call& c, int end, std::int64_t got, std::uint64_t offset, std::size_t room,
                   bool is_there) {
  if (got < 0 || !is_there) return;
  const auto size = static_cast<std::size_t>(got);
  c.log.hash = hash_of(c.memory, size, c.log.hash);
  if (end >= 0) {
    const std::int64_t wrong =
        first_wrong(c.memory, size, peer_of(static_cast<std::size_t>(end)), offset);
    if (wrong >= 0) c.note(-wrong - 1);
  }
  for (std::size_t i = size; i < std::min<std::size_t>(room, size + 64); ++i) {
    if (c.memory[i] != scrap) return c.note(-424242);
  }
}

std::int64_t call_recvmsg(call& c, int fd, std::size_t size, int flags, int parts) {
  parts_of list = divide(c.memory, size, parts);
  std::array<std::uint8_t, 64> name{};
  std::array<std::uint8_t, 64> control{};
  msghdr message{};
  message.msg_name = name.data();
  message.msg_namelen = name.size();
  message.msg_iov = list.list.data();
  message.msg_iovlen = static_cast<std::size_t>(list.count);
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  message.msg_flags = 0x5555;
  c.make([&] { return ::recvmsg(fd, &message, flags); });
  c.note(message.msg_namelen);
  c.note(static_cast<std::int64_t>(message.msg_controllen));
  c.note(message.msg_flags);
  return c.log.value;
}

std::int64_t call_recvmmsg(call& c, int fd, std::size_t size, int flags, int wanted) {
  std::array<mmsghdr, 4> messages{};
  std::array<iovec, 4> parts{};
  const auto count = static_cast<unsigned>(std::clamp(wanted, 0, 4));
  for (unsigned i = 0; i < count; ++i) {
    parts[i] = {c.memory + i * size, size};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_len = 99;
  }
  const std::int64_t found =
      c.make([&] { return ::recvmmsg(fd, messages.data(), count, flags, nullptr); });
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < found; ++i) {
    const unsigned length = messages[static_cast<std::size_t>(i)].msg_len;
    c.note(length);
    std::memmove(c.memory + total, c.memory + static_cast<std::size_t>(i) * size, length);
    total += length;
  }
  return found < 0 ? found : total;
}

std::int64_t call_recvfrom(call& c, int fd, std::size_t size, int flags) {
  std::array<std::uint8_t, 64> name{};
  socklen_t length = name.size();
  c.make([&] {
    return ::recvfrom(fd, c.memory, size, flags, reinterpret_cast<sockaddr*>(name.data()), &length);
  });
  c.note(length);
  return c.log.value;
}

std::int64_t one_call(call& c, int fd, std::size_t size, int flags) {
  void* to = c.memory;
  if (c.of.what == op::read) {
    if (c.arg(2) != 0) to = bad_pointer(c.arg(2));
    return c.make([&] { return ::read(fd, to, size); });
  }
  switch (c.of.what) {
    case op::recv:
      if (c.arg(3) != 0) to = bad_pointer(c.arg(3));
      return c.make([&] { return ::recv(fd, to, size, flags); });
    case op::recvfrom: return call_recvfrom(c, fd, size, flags);
    case op::readv: {
      const parts_of list = divide(c.memory, size, c.arg(2));
      return c.make([&] { return ::readv(fd, list.list.data(), list.count); });
    }
    case op::preadv2: {
      const parts_of list = divide(c.memory, size, c.arg(3));
      return c.make([&] { return ::preadv2(fd, list.list.data(), list.count, -1, flags); });
    }
    case op::recvmsg: return call_recvmsg(c, fd, size, flags, c.arg(3));
    default: return call_recvmmsg(c, fd, size, flags, c.arg(3));
  }
}

bool has_flags(op what) { return what != op::read && what != op::readv && what != op::preadv2; }

// All of what is there, or `size` bytes as they come, in calls of `piece`.
void read_in_pieces(call& c, int fd, int end, std::uint64_t size, std::size_t piece,
                    bool with_read) {
  const end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  std::uint64_t done = 0;
  piece = std::clamp<std::size_t>(piece, 1, memory_size);
  while (done < size) {
    const std::size_t room = std::min<std::size_t>(piece, size - done);
    const std::uint64_t offset = of.read.load();
    const std::int64_t got = c.make(
        [&] { return with_read ? ::read(fd, c.memory, room) : ::recv(fd, c.memory, room, 0); });
    if (got < 0 && c.log.error == EAGAIN) {
      c.log.error = untouched;
      pollfd one{fd, POLLIN, 0};
      if (::poll(&one, 1, 2000) <= 0) break;
      continue;
    }
    if (got <= 0) break;
    look_at_bytes(c, end, got, offset, 0, true);
    count_read(c, end, got, 0);
    done += static_cast<std::uint64_t>(got);
    c.log.value = 1;  // how many at a time is not determined here
  }
  c.note(static_cast<std::int64_t>(done));
}

void take_pieces_step(call& c) {
  const int fd = c.fd();
  const int end = c.book.end_of(fd);
  if (end < 0) return c.skip();
  if (c.in.ends[static_cast<std::size_t>(end)].shut_read) return c.skip();
  const std::uint64_t unread = c.book.unread(end);
  if (c.of.what == op::drain) {
    return read_in_pieces(c, fd, end, unread, static_cast<std::size_t>(c.arg(1)), false);
  }
  std::uint64_t size = static_cast<std::uint64_t>(std::max(c.arg(1), 0));
  const step* writer = c.waiting();
  // As in returns().
  const bool has_no_low_mark = c.in.ends[static_cast<std::size_t>(end)].low_mark <= 1;
  const bool is_fed =
      writer != nullptr && has_no_low_mark && writer->what == op::put &&
      end_of_step(c.in, *writer) == static_cast<int>(peer_of(static_cast<std::size_t>(end)));
  if (c.is_offered && !c.book.is_over(end) && size > unread && has_no_low_mark &&
      next_step_feeds(c, end, size - unread)) {
    c.overlap();
  } else if (!is_fed) {
    size = std::min(size, unread);  // nobody writes meanwhile
  }
  read_in_pieces(c, fd, end, size, static_cast<std::size_t>(c.arg(2)), c.arg(3) != 0);
}

}  // namespace

void take_reading_step(call& c) {
  if (c.of.what == op::drain || c.of.what == op::take) return take_pieces_step(c);
  const int fd = c.fd();
  const int end = c.book.end_of(fd);
  // Negative sizes are absurd ones.
  const auto size = static_cast<std::size_t>(static_cast<std::int64_t>(c.arg(1)));
  const std::size_t room = std::min(size, memory_size / 4);
  int flags = has_flags(c.of.what) || c.of.what == op::preadv2 ? c.arg(2) : 0;
  // recvmmsg of several waits for each of them, unless told not to.
  if (c.of.what == op::recvmmsg) flags |= MSG_DONTWAIT;
  if (!returns(c, fd, room, flags)) {
    if (!has_flags(c.of.what)) return c.skip();
    flags |= MSG_DONTWAIT;
  }
  if (end >= 0 && c.book.unread(end) > determined_bytes) {
    if ((flags & MSG_PEEK) != 0) return c.skip();
    // Between two windows that is the end, or not yet.
    if (c.in.ends[static_cast<std::size_t>(end)].shut_read) return c.skip();
    return read_in_pieces(c, fd, end, std::min<std::uint64_t>(c.book.unread(end), room), room,
                          !has_flags(c.of.what));
  }
  const bool is_simple = c.of.what == op::read || c.of.what == op::recv;
  std::memset(c.memory, scrap, std::min<std::size_t>(room * 4, 256 * 1024));
  const std::uint64_t offset = end < 0 ? 0 : c.in.ends[static_cast<std::size_t>(end)].read.load();
  const std::int64_t got = one_call(c, fd, is_simple ? size : room, flags);
  look_at_bytes(c, end, got, offset, is_simple ? room : 0, (flags & MSG_TRUNC) == 0);
  count_read(c, end, got, flags);
}

}  // namespace oracle
