// SPDX-License-Identifier: Apache-2.0
// Calls that put bytes into a socket.
#include "bytes.hpp"
#include "player.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

namespace oracle {
namespace {

// Three parts, the middle one empty when there is little.
std::array<iovec, 3> divide(std::uint8_t* memory, std::size_t size) {
  const std::size_t first = size / 5;
  const std::size_t second = size / 2;
  return {{{memory, first},
           {memory + first, second},
           {memory + first + second, size - first - second}}};
}

std::int64_t call_sendmmsg(call& c, int fd, std::size_t size, int flags, int wanted) {
  std::array<mmsghdr, 4> messages{};
  std::array<iovec, 4> parts{};
  const auto count = static_cast<unsigned>(std::clamp(wanted, 0, 4));
  std::size_t at = 0;
  for (unsigned i = 0; i < count; ++i) {
    const std::size_t n = i + 1 == count ? size - at : size / count;
    parts[i] = {c.memory + at, n};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    at += n;
  }
  const std::int64_t found = c.make([&] { return ::sendmmsg(fd, messages.data(), count, flags); });
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < found; ++i) {
    c.note(messages[static_cast<std::size_t>(i)].msg_len);
    total += messages[static_cast<std::size_t>(i)].msg_len;
  }
  return found < 0 ? found : total;
}

std::int64_t call_sendfile(call& c, int fd, std::size_t size, bool with_offset) {
  const int file = ::memfd_create("bytes", MFD_CLOEXEC);
  if (::write(file, c.memory, size) < 0) return -1;
  off_t at = 0;
  ::lseek(file, 0, SEEK_SET);
  c.make([&] { return ::sendfile(fd, file, with_offset ? &at : nullptr, size); });
  // How far the file was read: as far as it was sent.
  c.note((with_offset ? at : ::lseek(file, 0, SEEK_CUR)) - std::max<std::int64_t>(c.log.value, 0));
  ::close(file);
  return c.log.value;
}

std::int64_t one_call(call& c, int fd, std::size_t size, int flags) {
  const void* from = c.memory;
  switch (c.of.what) {
    case op::write:
      if (c.arg(2) != 0) from = bad_pointer(c.arg(2));
      return c.make([&] { return ::write(fd, from, size); });
    case op::send:
      if (c.arg(3) != 0) from = bad_pointer(c.arg(3));
      return c.make([&] { return ::send(fd, from, size, flags); });
    case op::sendto: return c.make([&] { return ::sendto(fd, from, size, flags, nullptr, 0); });
    case op::writev: {
      const auto parts = divide(c.memory, size);
      return c.make([&] { return ::writev(fd, parts.data(), c.arg(2) < 0 ? c.arg(2) : 3); });
    }
    case op::pwritev2: {
      const auto parts = divide(c.memory, size);
      return c.make([&] { return ::pwritev2(fd, parts.data(), 3, -1, flags); });
    }
    case op::sendmsg: {
      auto parts = divide(c.memory, size);
      msghdr message{};
      message.msg_iov = parts.data();
      message.msg_iovlen = parts.size();
      return c.make([&] { return ::sendmsg(fd, &message, flags); });
    }
    case op::sendmmsg: return call_sendmmsg(c, fd, size, flags, c.arg(3));
    default: return call_sendfile(c, fd, size, c.arg(2) != 0);
  }
}

bool is_misused(const call& c) {
  switch (c.of.what) {
    case op::write: return c.arg(2) != 0;
    case op::writev: return c.arg(2) < 0;
    case op::send: return c.arg(3) != 0;
    case op::pwritev2: return c.arg(2) != 0;
    default: return false;
  }
}

void count_written(call& c, int end, std::int64_t sent) {
  if (end < 0 || sent <= 0) return;
  end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  const end_book& peer = c.in.ends[peer_of(static_cast<std::size_t>(end))];
  of.written += static_cast<std::uint64_t>(sent);
  ++of.calls;
  // Nobody can read it: the kernel answers with a reset.
  if (peer.is_gone || (peer.shut_read && peer.shut_write)) of.expects_reset = true;
}

// Does somebody read at the other end while we write?
bool is_taken(call& c, int end, std::uint64_t size) {
  // A little may be left over.
  const auto takes = [&](const step& by) {
    return by.what == op::take && c.in.ends[peer_of(static_cast<std::size_t>(end))].low_mark <= 1 &&
           by.args[1] + 65536 >= static_cast<std::int64_t>(size) &&
           end_of_step(c.in, by) == static_cast<int>(peer_of(static_cast<std::size_t>(end)));
  };
  if (const step* reader = c.waiting()) return takes(*reader);
  if (!c.is_offered || !takes(c.next())) return false;
  const end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  if (of.shut_write || c.in.ends[peer_of(static_cast<std::size_t>(end))].shut_read) return false;
  c.overlap();
  return true;
}

// How many bytes a buffer takes at once is not TCP's to say. So what was left
// over is sent again, until it is in; or, if nobody will read it, until the
// reset is there, which may take as long as a window stays shut.
void write_rest(call& c, int fd, int end, std::size_t size, std::size_t done, std::size_t piece) {
  while (done < size) {
    pollfd one{fd, POLLOUT, 0};
    if (c.log.value < 0 && c.log.error == EAGAIN && ::poll(&one, 1, 2000) <= 0) break;
    const std::size_t n = std::min(size - done, piece);
    if (done > 0 && c.in.ends[static_cast<std::size_t>(end)].expects_reset) {
      c.log.late += c.book.settle();
    }
    fill(c.memory, n, static_cast<std::size_t>(end),
         c.in.ends[static_cast<std::size_t>(end)].written);
    c.make([&] { return ::send(fd, c.memory, n, 0); });
    if (c.log.value < 0 && c.log.error == EAGAIN) continue;
    if (c.log.value < 0) break;
    count_written(c, end, c.log.value);
    done += static_cast<std::size_t>(c.log.value);
  }
  if (done == size) {
    c.log.value = static_cast<std::int64_t>(size);
    c.log.error = untouched;
  }
  c.note(static_cast<std::int64_t>(done));
}

}  // namespace

void take_writing_step(call& c) {
  const int fd = c.fd();
  const int end = c.book.end_of(fd);
  const std::size_t size =
      std::min(static_cast<std::size_t>(std::max(c.arg(1), 0)), 2 * memory_size);
  const bool is_put = c.of.what == op::put;
  if (end < 0) {
    if (is_put || c.book.kind_of(fd) == fd_kind::other) return c.skip();
    one_call(c, fd, std::min(size, memory_size), 0);
    return;
  }
  const auto at = static_cast<std::size_t>(end);
  const std::uint64_t unread = c.book.unread(static_cast<int>(peer_of(at)));
  const end_book& peer = c.in.ends[peer_of(at)];
  const bool may_reset = peer.is_gone || (peer.shut_read && peer.shut_write);
  if (may_reset && c.book.unread(end) > determined_bytes) return c.skip();  // it loses some
  const bool is_read = is_put && is_taken(c, end, size);
  if (!is_read && unread + size > absorbed_bytes) return c.skip();
  if (unread + size > determined_bytes) c.in.ends[peer_of(at)].had_bulk = true;
  if (is_put) {
    const auto piece = std::clamp<std::size_t>(static_cast<std::size_t>(c.arg(2)), 1, memory_size);
    return write_rest(c, fd, end, size, 0, piece);
  }
  const int flags = c.of.what == op::writev || c.of.what == op::write ? 0 : c.arg(2);
  const std::size_t once = std::min(size, memory_size);
  fill(c.memory, once, at, c.in.ends[at].written.load());
  const bool is_certain = unread + once <= certain_room;
  // Of several messages one that did not fit would be cut in two.
  if (c.of.what == op::sendmmsg && !is_certain) return c.skip();
  const std::int64_t sent = one_call(c, fd, once, c.of.what == op::sendfile ? 0 : flags);
  count_written(c, end, sent);
  if (is_certain || is_misused(c)) return;
  const bool is_short = sent >= 0 && static_cast<std::size_t>(sent) < once;
  if (!is_short && !(sent < 0 && c.log.error == EAGAIN)) return;
  const std::int32_t notes = c.log.extra_count;
  write_rest(c, fd, end, once, sent < 0 ? 0 : static_cast<std::size_t>(sent), memory_size);
  // Nothing of it shows: TCP might have taken it all at once.
  if (c.log.error == untouched) c.log.extra_count = notes;
}

}  // namespace oracle
