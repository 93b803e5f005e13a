// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/io.hpp>

#include <devices/chaos.hpp>
#include <devices/ticks.hpp>
#include <socket_shim/epoll.hpp>
#include <socket_shim/memory.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>
#include <socket_shim/wait.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>

namespace shim {
namespace {

ssize_t fail(int code) noexcept {
  errno = code;
  return -1;
}

// A list of buffers less its first n bytes. Holds what a call may hold at most
// in pieces, so that no call allocates.
class rest_of {
 public:
  explicit rest_of(smcd::buffers all) noexcept : all_(all) {}

  [[nodiscard]] smcd::buffers now() noexcept {
    if (done_ == 0) return all_;
    std::size_t skip = done_;
    std::size_t first = 0;
    while (first < all_.size() && skip >= all_[first].iov_len) skip -= all_[first++].iov_len;
    std::size_t count = 0;
    for (; first < all_.size() && count < pieces_.size(); ++first, ++count) {
      pieces_[count] = {static_cast<std::byte*>(all_[first].iov_base) + skip,
                        all_[first].iov_len - skip};
      skip = 0;
    }
    return {pieces_.data(), count};
  }
  void skip(std::size_t n) noexcept { done_ += n; }
  [[nodiscard]] std::size_t done() const noexcept { return done_; }

 private:
  smcd::buffers all_;
  std::size_t done_ = 0;
  std::array<iovec, 16> pieces_;
};

// The program's view of a code that a connection gave.
int errno_of(endpoint& of, int fd, const smcd::error_code& code) noexcept {
  if (code.category() == boost::system::system_category()) return code.value();
  // The peer broke the protocol: this connection ends, and nothing else.
  self.log("fd %d: the peer broke the protocol; connection reset", fd);
  of.link.stay_on_tcp(smcd::decline_code::internal_error);
  static_cast<void>(real.shutdown(fd, SHUT_RDWR));
  return ECONNRESET;
}

bool is_blocking(endpoint& on, int fd, int flags) noexcept {
  if ((flags & MSG_DONTWAIT) != 0) return false;
  endpoint::mode known = on.modes.load(std::memory_order_relaxed);
  // Another process that has or had the socket may have changed it.
  if (known == endpoint::unknown || on.was_shared.load(std::memory_order_relaxed)) [[unlikely]] {
    const int status = real.fcntl(fd, F_GETFL);
    known = status >= 0 && (status & O_NONBLOCK) != 0 ? endpoint::non_blocking : endpoint::blocking;
    on.modes.store(known, std::memory_order_relaxed);
  }
  return known == endpoint::blocking;
}

msghdr message_of(smcd::buffers list) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(list.data());
  message.msg_iovlen = list.size();
  return message;
}

// SO_RCVTIMEO or SO_SNDTIMEO, asked of the kernel once; or each time if a child
// may have set it.
deadline deadline_of(const endpoint& on, std::atomic<std::uint64_t>& timeout_us, int fd,
                     int option) noexcept {
  std::uint64_t us = timeout_us.load(std::memory_order_relaxed);
  if (us == endpoint::not_asked || on.was_shared.load(std::memory_order_relaxed)) [[unlikely]] {
    timeval value{};
    socklen_t size = sizeof value;
    us = real.getsockopt(fd, SOL_SOCKET, option, static_cast<void*>(&value), &size) == 0
             ? static_cast<std::uint64_t>(value.tv_sec) * 1'000'000 +
                   static_cast<std::uint64_t>(value.tv_usec)
             : 0;
    timeout_us.store(us, std::memory_order_relaxed);
  }
  return us == 0 ? deadline::never() : deadline::after_us(us);
}

// A close that no hook can see makes way for another socket under the number.
// So a stream that was not used for a while is compared with what the kernel has
// there, and a busy one from time to time.
constexpr std::uint64_t trusted_for = 1000 * dibs::ticks_per_us;
bool is_stale(endpoint& of, int fd, std::uint64_t now) noexcept {
  if (!dibs::has_passed(of.verified.load(std::memory_order_relaxed), trusted_for, now)) {
    return false;
  }
  of.verified.store(now, std::memory_order_relaxed);
  if (self.is_behind(of, fd)) return false;
  of.verified.store(0, std::memory_order_relaxed);  // it may have other numbers
  self.log("fd %d is another socket now", fd);
  self.drop_stale(fd);
  return true;
}

// A young connection is not compared with the kernel's: its bytes take the
// kernel's way, and come to no harm. But not through calls for sockets, if there
// is none any more.
ssize_t told_by_kernel(ssize_t answer, int fd) noexcept {
  if (answer >= 0 || errno != ENOTSOCK) return answer;
  self.drop_stale(fd);
  return not_ours;
}

// Nobody rings for a byte behind others that are there already.
woken wait_for_more(endpoint& from, const deadline& until) {
  pollfd none{-1, 0, 0};
  const rollback unpin{[](void* of) { pinned::unpin(*static_cast<endpoint*>(of)); }, &from};
  if (sleep_on(nullptr, &none, 0, until.sooner_us(unsure_us), nullptr, unpin) >= 0) {
    return until.is_over() ? woken::timeout : woken::ready;
  }
  return !until.is_never() || !handlers_restart() ? woken::interrupted : woken::ready;
}

// Is what a read got all that can ever come in this call?
bool is_rest_missing(endpoint& from, smcd::tcp_lane& tcp, bool wants_more) noexcept {
  // TCP knows no lanes: what is there comes in one call.
  if (!wants_more && !from.link.stands_at_mark()) return true;
  // An error is for the next call: this one must not take it.
  const bool is_over = tcp.has_hung_up();
  return (is_over || !wants_more) && from.link.readable_size(tcp) == 0;
}

ssize_t receive_bytes(endpoint& from, int fd, smcd::buffers to, int flags, std::uint64_t now) {
  const bool is_peek = (flags & MSG_PEEK) != 0;
  const bool wants_all = (flags & MSG_WAITALL) != 0;
  const std::size_t size = smcd::total_size(to);
  const std::size_t low_mark = low_mark_of(from, fd);
  // What a call waits for.
  const auto least = static_cast<ssize_t>(wants_all ? size : std::min(size, low_mark));
  tcp_socket tcp(fd);
  rest_of rest(to);
  deadline until = deadline::never();
  bool has_waited = false;
  for (;;) {
    // Who waits before it looks has to be woken by what is there already.
    const bool is_hasty =
        rest.done() == 0 && dibs::chaos::one_in(16) && is_blocking(from, fd, flags);
    const bool is_over = is_peek && least > 1 && tcp.has_hung_up();
    const smcd::result<std::size_t> got =
        is_hasty ? dibs::would_block() : from.link.read_some(tcp, rest.now(), is_peek, now);
    sync_members(from);
    if (got && !is_peek) rest.skip(*got);
    // What the call gives if it ends now.
    const auto done = static_cast<ssize_t>(got && is_peek ? *got : rest.done());
    if (got) {
      if (*got == 0 || done == static_cast<ssize_t>(size)) return done;
      if (is_peek && (done >= least || is_over || !is_blocking(from, fd, flags))) return done;
      if (!is_peek && is_rest_missing(from, tcp, done < least)) return done;
      now = dibs::ticks();
      if (!is_peek) continue;
    } else if (!dibs::is_would_block(got.error())) {
      if (done == 0) return fail(errno_of(from, fd, got.error()));
      from.link.put_back(got.error());
      return done;
    } else if ((done > 0 && done >= least) || !is_blocking(from, fd, flags)) {
      return done > 0 ? done : fail(EAGAIN);
    }
    if (!has_waited) until = deadline_of(from, from.receive_timeout_us, fd, SO_RCVTIMEO);
    has_waited = true;
    // With a low mark the kernel does not tell of the first byte either.
    const woken why =
        got || low_mark > 1 ? wait_for_more(from, until) : wait_stream(from, fd, POLLIN, until);
    if (why == woken::timeout) return done > 0 ? done : fail(EAGAIN);
    if (why == woken::interrupted) return done > 0 ? done : fail(EINTR);
    // Another thread may have closed fd, and the number may be somebody else's.
    if (self.find(fd) != &from) return done > 0 ? done : fail(EBADF);
    now = dibs::ticks();
  }
}

// TCP takes MSG_TRUNC as: throw the bytes away.
ssize_t discard_bytes(endpoint& from, int fd, std::size_t size, int flags, std::uint64_t now) {
  std::array<std::byte, 4096> scrap;
  std::size_t done = 0;
  while (done < size) {
    const iovec part{scrap.data(), std::min(scrap.size(), size - done)};
    const ssize_t got = receive_bytes(from, fd, {&part, 1}, flags, now);
    if (got <= 0) return done > 0 ? static_cast<ssize_t>(done) : got;
    done += static_cast<std::size_t>(got);
    if ((flags & MSG_PEEK) != 0) {
      tcp_socket tcp(fd);
      return static_cast<ssize_t>(std::max(done, std::min(size, from.link.readable_size(tcp))));
    }
    // An error is for the next call: this one must not take it.
    tcp_socket tcp(fd);
    if (from.link.readable_size(tcp) == 0) break;
    flags |= MSG_DONTWAIT;
  }
  return static_cast<ssize_t>(done);
}

ssize_t transmit_bytes(endpoint& to, int fd, smcd::buffers from, int flags, std::uint64_t now) {
  const std::size_t size = smcd::total_size(from);
  tcp_socket tcp(fd);
  rest_of rest(from);
  deadline until = deadline::never();
  bool has_waited = false;
  for (;;) {
    const bool is_hasty = dibs::chaos::one_in(16) && is_blocking(to, fd, flags);
    const smcd::result<std::size_t> sent =
        is_hasty ? dibs::would_block() : to.link.write_some(tcp, rest.now(), now);
    sync_members(to);
    if (sent) {
      rest.skip(*sent);
      if (rest.done() == size) return static_cast<ssize_t>(size);
      now = dibs::ticks();
      if (is_blocking(to, fd, flags)) continue;
      // A second try in the same call: the ring may have ended, not the room.
      if (*sent > 0) continue;
    }
    const auto done = static_cast<ssize_t>(rest.done());
    if (!sent && !dibs::is_would_block(sent.error())) {
      if (done > 0) return done;
      const int code = errno_of(to, fd, sent.error());
      if (code == EPIPE && (flags & MSG_NOSIGNAL) == 0) ::raise(SIGPIPE);
      return fail(code);
    }
    if (!is_blocking(to, fd, flags)) return done > 0 ? done : fail(EAGAIN);
    if (!has_waited) until = deadline_of(to, to.send_timeout_us, fd, SO_SNDTIMEO);
    has_waited = true;
    const woken why = wait_stream(to, fd, POLLOUT, until);
    if (why == woken::timeout) return done > 0 ? done : fail(EAGAIN);
    if (why == woken::interrupted) return done > 0 ? done : fail(EINTR);
    if (self.find(fd) != &to) return done > 0 ? done : fail(EBADF);
    now = dibs::ticks();
  }
}

}  // namespace

namespace {

constexpr std::size_t longest_short = 8 * 1024;

// Looked at lately: see is_stale().
bool is_verified(const endpoint& of, std::uint64_t now) noexcept {
  return !dibs::has_passed(of.verified.load(std::memory_order_relaxed), trusted_for, now);
}

}  // namespace

ssize_t receive_short(int fd, void* to, std::size_t size, int flags) {
  if (size - 1 >= longest_short || (flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) != 0) return 0;
  const pinned known = self.find_live(fd);
  if (!known || low_mark_of(*known, fd) > 1) return 0;
  endpoint& from = *known;
  if (!is_verified(from, dibs::ticks()) || !is_writable(to, size)) return 0;
  std::size_t got = from.link.read_short(to, size);
  // What comes soon is worth a spin before anything else.
  if (got == 0 && (flags & MSG_DONTWAIT) == 0 &&
      from.modes.load(std::memory_order_relaxed) == endpoint::blocking &&
      !from.was_shared.load(std::memory_order_relaxed) && spin_for_input(from)) {
    got = from.link.read_short(to, size);
  }
  return static_cast<ssize_t>(got);
}

namespace {

template <class Write>
ssize_t write_short(int fd, std::size_t size, int flags, Write write) noexcept {
  if (size - 1 >= longest_short || (flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) != 0) return 0;
  const pinned known = self.find_live(fd);
  if (!known) return 0;
  endpoint& to = *known;
  const std::uint64_t now = dibs::ticks();
  if (!is_verified(to, now)) return 0;
  tcp_socket tcp(fd);
  const std::size_t sent = write(to.link, tcp, now);
  sync_members(to);
  return static_cast<ssize_t>(sent);
}

}  // namespace

ssize_t transmit_short(int fd, const void* from, std::size_t size, int flags) {
  return write_short(
      fd, size, flags, [=](smcd::connection& link, tcp_socket& tcp, std::uint64_t now) noexcept {
        return is_readable(from, size) ? link.write_short(tcp, from, size, now) : std::size_t{0};
      });
}

ssize_t transmit_short(int fd, smcd::buffers from, std::size_t size, int flags) {
  return write_short(
      fd, size, flags, [=](smcd::connection& link, tcp_socket& tcp, std::uint64_t now) noexcept {
        return is_readable(from, size) ? link.write_short(tcp, from, now) : std::size_t{0};
      });
}

std::size_t transmit_in_place(endpoint& to, int fd, std::size_t most, smcd::connection::filler fill,
                              void* of) noexcept {
  const std::uint64_t now = dibs::ticks();
  if (!is_verified(to, now)) return 0;
  tcp_socket tcp(fd);
  const std::size_t sent = to.link.write_in_place(tcp, most, now, fill, of);
  sync_members(to);
  return sent;
}

ssize_t receive(endpoint& from, int fd, smcd::buffers to, int flags) {
  const int saved = errno;
  if (tcp_socket tcp(fd); is_alone() && from.link.enter_early(tcp)) {
    errno = saved;
    msghdr message = message_of(to);
    const ssize_t got = to.size() == 1 ? real.recv(fd, to[0].iov_base, to[0].iov_len, flags)
                                       : real.recvmsg(fd, &message, flags);
    from.link.leave_early(got > 0 && (flags & MSG_PEEK) == 0 ? static_cast<std::size_t>(got) : 0,
                          0);
    return told_by_kernel(got, fd);
  }
  const std::uint64_t now = dibs::ticks();
  if (is_stale(from, fd, now)) return not_ours;
  ssize_t got = 0;
  if ((flags & MSG_TRUNC) != 0) {
    got = discard_bytes(from, fd, smcd::total_size(to), flags & ~MSG_WAITALL, now);
  } else {
    got = receive_bytes(from, fd, to, flags, now);
  }
  // Looks at what is left may have ended the handshake.
  sync_members(from);
  if (got >= 0) errno = saved;
  return told_by_kernel(got, fd);
}

ssize_t transmit(endpoint& to, int fd, smcd::buffers from, int flags) {
  const int saved = errno;
  if (tcp_socket tcp(fd); is_alone() && to.link.enter_early(tcp)) {
    errno = saved;
    const msghdr message = message_of(from);
    const ssize_t sent =
        from.size() == 1
            ? real.send(fd, static_cast<const void*>(from[0].iov_base), from[0].iov_len, flags)
            : real.sendmsg(fd, &message, flags);
    to.link.leave_early(0, sent > 0 ? static_cast<std::size_t>(sent) : 0);
    return told_by_kernel(sent, fd);
  }
  const std::uint64_t now = dibs::ticks();
  if (is_stale(to, fd, now)) return not_ours;
  const ssize_t sent = transmit_bytes(to, fd, from, flags, now);
  if (sent >= 0) errno = saved;
  return told_by_kernel(sent, fd);
}

}  // namespace shim
