// SPDX-License-Identifier: Apache-2.0
#pragma once
// The TCP lane as the protocol sees it. The protocol does no I/O of its own:
// a driver (the shim, the Asio transport, a test) implements these calls over
// a socket, and none of them ever blocks.

#include <devices/inet.hpp>
#include <smcd/error.hpp>
#include <smcd/ring.hpp>

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace smcd {

struct socket_identity {
  std::uint64_t netns = 0;   // SO_NETNS_COOKIE
  std::uint64_t cookie = 0;  // SO_COOKIE
  dibs::inet_address local;
};

// Of a socket, ever, as the kernel counts them.
struct tcp_count {
  std::uint64_t written = 0;  // by this end, sent or not
  std::uint64_t read = 0;     // by this end
};

class tcp_lane {
 public:
  // Up to to.size() bytes, in order. 0 at the end of the stream.
  [[nodiscard]] virtual result<std::size_t> receive(std::span<std::byte> to) noexcept = 0;
  // The same without taking them.
  [[nodiscard]] virtual result<std::size_t> peek(std::span<std::byte> to) noexcept = 0;
  [[nodiscard]] virtual result<std::size_t> send(std::span<const std::byte> from) noexcept = 0;
  // The same, or peek(), with several buffers.
  [[nodiscard]] virtual result<std::size_t> receive_parts(std::span<const iovec> to,
                                                          bool is_peek) noexcept = 0;
  // In one segment, for drivers that can.
  [[nodiscard]] virtual result<std::size_t> send_parts(std::span<const iovec> from) noexcept;
  // Bytes that receive() could take now (SIOCINQ).
  [[nodiscard]] virtual std::size_t unread() noexcept = 0;
  // Bytes are waited for that the peer has sent: asks its kernel not to hold them
  // back until earlier ones are acknowledged. Only a hint.
  virtual void hurry() noexcept = 0;
  // True when the peer has sent FIN or RST, or the socket failed.
  [[nodiscard]] virtual bool has_hung_up() noexcept = 0;
  // All bytes ever, as the kernel counts them: written by this end, read by
  // this end. Lets us see I/O that went past us. False if it cannot tell.
  [[nodiscard]] virtual bool counters(std::uint64_t& written, std::uint64_t& read) noexcept = 0;
  // Which connection this is, from the socket itself. False if it cannot tell.
  [[nodiscard]] virtual bool identify(socket_identity&) noexcept = 0;
  // Asked once, before the handshake. False for a socket with options whose
  // effect would be lost on DMBs; and the receive buffer that the program set
  // by SO_RCVBUF, in bytes, 0 if it left that to us.
  [[nodiscard]] virtual bool may_leave_tcp() noexcept { return true; }
  [[nodiscard]] virtual std::uint32_t wanted_buffer() noexcept { return 0; }
  // Is the memory there that the first n bytes of a caller's buffers name? Asked
  // before bytes are copied to or from a DMB; where the kernel copies, it finds
  // out itself. A driver that trusts its callers need not look.
  [[nodiscard]] virtual bool may_read(buffers, std::size_t) noexcept { return true; }
  [[nodiscard]] virtual bool may_write(buffers, std::size_t) noexcept { return true; }

 protected:
  ~tcp_lane() = default;
};

// ---- inline ----------------------------------------------------------------

inline result<std::size_t> tcp_lane::send_parts(std::span<const iovec> from) noexcept {
  std::size_t done = 0;
  for (const iovec& part : from) {
    if (part.iov_len == 0) continue;
    const result<std::size_t> sent =
        send({static_cast<const std::byte*>(part.iov_base), part.iov_len});
    if (!sent) return done > 0 ? result<std::size_t>(done) : sent;
    done += *sent;
    if (*sent < part.iov_len) break;
  }
  return done;
}

}  // namespace smcd
