// SPDX-License-Identifier: Apache-2.0
// Between a live stream and other files: what the kernel does without copies,
// with copies.
#include <socket_shim/io.hpp>

#include <socket_shim/call_memory.hpp>
#include <socket_shim/memory.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>
#include <socket_shim/wait.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

namespace shim {
namespace {

ssize_t fail(int code) noexcept {
  errno = code;
  return -1;
}

// As the kernel names what pread says of a file that cannot be sent.
int errno_of_source(int code, bool has_offset) noexcept {
  if (code == EISDIR || (code == ESPIPE && !has_offset)) return EINVAL;
  return code;
}

// A file that is read straight into the ring. Who finds nothing there asks once
// more the other way, and learns why.
struct file_source {
  int fd;
  off64_t at;

  static std::uint32_t fill(void* of, std::span<std::byte> to) noexcept {
    const auto& source = *static_cast<file_source*>(of);
    const dibs::cancel_shield not_cancelled;
    const ssize_t got = ::pread64(source.fd, to.data(), to.size(), source.at);
    return got > 0 ? static_cast<std::uint32_t>(got) : 0;
  }
};

bool never_blocks(int fd) noexcept {
  const int status = real.fcntl(fd, F_GETFL);
  return status >= 0 && (status & O_NONBLOCK) != 0;
}

}  // namespace

ssize_t transmit_file(endpoint& to, int fd, int from, off64_t* offset, std::size_t count) {
  const int saved = errno;
  if (offset != nullptr && !is_writable(offset, sizeof *offset)) return fail(EFAULT);
  // A short file on a connection that has not shown that it lives.
  constexpr std::size_t short_file = 256 * 1024;
  if (tcp_socket tcp(fd); count <= short_file && is_alone() && to.link.enter_early(tcp)) {
    const ssize_t sent = real.sendfile(fd, from, offset, count);
    to.link.leave_early(0, sent > 0 ? static_cast<std::size_t>(sent) : 0);
    return sent;
  }
  off64_t at = offset != nullptr ? *offset : ::lseek64(from, 0, SEEK_CUR);
  if (at < 0) return fail(offset != nullptr ? EINVAL : errno_of_source(errno, false));
  // Over TCP the kernel moves as much at once. A peer that is gone takes the
  // first piece, and none after it.
  constexpr std::size_t few = 16384;
  const bool is_tcp = to.link.sends_on() == smcd::lane::tcp || to.link.is_asked_back() ||
                      to.link.peer_is_done_sending();
  std::optional<call_memory<std::byte, few>> piece;
  std::size_t size = 0;
  std::size_t done = 0;
  ssize_t result = 0;
  while (done < count) {
    if (file_source source{from, at}; !is_tcp) {
      const std::size_t sent = transmit_in_place(to, fd, count - done, file_source::fill, &source);
      done += sent;
      at += static_cast<off64_t>(sent);
      if (sent > 0) continue;
    }
    if (!piece) {
      size = std::min(count, is_tcp || tcp_socket(fd).has_hung_up() ? 4 * few : few);
      if (piece.emplace(size).get() == nullptr) {
        result = fail(ENOMEM);
        break;
      }
    }
    const ssize_t got = ::pread64(from, piece->get(), std::min(size, count - done), at);
    if (got <= 0) {
      result = got;
      if (got < 0) errno = errno_of_source(errno, offset != nullptr);
      break;
    }
    const iovec part{piece->get(), static_cast<std::size_t>(got)};
    result = transmit(to, fd, {&part, 1}, 0);
    if (result <= 0) break;
    done += static_cast<std::size_t>(result);
    at += result;
    if (result < got) break;
  }
  if (done == 0 && result < 0) return result;
  if (offset != nullptr) {
    *offset = at;
  } else {
    ::lseek64(from, at, SEEK_SET);
  }
  errno = saved;
  return static_cast<ssize_t>(done);
}

// Looks at bytes, writes them to the pipe, and takes as many as went in.
ssize_t receive_to_pipe(endpoint& from, int fd, int to, std::size_t size, unsigned flags) {
  struct stat status {};
  if (::fstat(to, &status) != 0) return fail(EBADF);
  if (!S_ISFIFO(status.st_mode)) return not_ours;  // the kernel knows why not
  std::array<std::byte, 16384> piece;
  std::size_t most = std::min(size, piece.size());
  if ((flags & SPLICE_F_NONBLOCK) != 0 || never_blocks(to)) {
    pollfd ask{to, POLLOUT, 0};
    if (real.poll(&ask, nfds_t{1}, 0) > 0 && ask.revents == 0) return fail(EAGAIN);
    if ((ask.revents & (POLLOUT | POLLERR)) == 0) return fail(EAGAIN);
    most = std::min<std::size_t>(most, PIPE_BUF);  // so much fits for sure
  }
  // Only the pipe heeds the flag.
  const iovec part{piece.data(), most};
  const ssize_t seen = receive(from, fd, {&part, 1}, MSG_PEEK);
  if (seen <= 0) return seen;
  const ssize_t moved =
      real.write(to, static_cast<const void*>(piece.data()), static_cast<std::size_t>(seen));
  if (moved <= 0) return moved;
  const iovec taken{piece.data(), static_cast<std::size_t>(moved)};
  return receive(from, fd, {&taken, 1}, MSG_DONTWAIT);
}

}  // namespace shim
