// SPDX-License-Identifier: Apache-2.0
#pragma once
// The TCP lane over a kernel socket. No call raises SIGPIPE, and none blocks
// unless it is told that it may.

#include <smcd/connection.hpp>
#include <smcd/tcp_lane.hpp>

namespace dibsock::detail {

class kernel_lane final : public smcd::tcp_lane {
 public:
  kernel_lane() noexcept = default;
  explicit kernel_lane(int fd) noexcept : fd_(fd) {}  // not owned

  [[nodiscard]] smcd::result<std::size_t> receive(std::span<std::byte> to) noexcept override;
  [[nodiscard]] smcd::result<std::size_t> peek(std::span<std::byte> to) noexcept override;
  [[nodiscard]] smcd::result<std::size_t> receive_parts(smcd::buffers to,
                                                        bool is_peek) noexcept override;
  [[nodiscard]] smcd::result<std::size_t> send(std::span<const std::byte> from) noexcept override;
  [[nodiscard]] std::size_t unread() noexcept override;
  void hurry() noexcept override;
  [[nodiscard]] bool has_hung_up() noexcept override;
  [[nodiscard]] bool counters(std::uint64_t& written, std::uint64_t& read) noexcept override;
  [[nodiscard]] bool identify(smcd::socket_identity&) noexcept override;
  [[nodiscard]] bool may_leave_tcp() noexcept override;
  [[nodiscard]] std::uint32_t wanted_buffer() noexcept override;

  // All buffers at once, for a connection that is on TCP alone. `may_wait`: as
  // the socket's mode says.
  [[nodiscard]] smcd::result<std::size_t> receive(smcd::buffers to, bool may_wait) noexcept;
  [[nodiscard]] smcd::result<std::size_t> send(smcd::buffers from, bool may_wait) noexcept;

  // What poll(2) says of the socket now.
  [[nodiscard]] bool is_ready(short events) noexcept;
  // The next close sends RST instead of FIN.
  void reset_at_close() noexcept;

  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  int fd_ = -1;
};

// SO_NETNS_COOKIE; false where the kernel has none.
[[nodiscard]] bool netns_of(int fd, std::uint64_t& to) noexcept;

// Where a socket is bound to.
[[nodiscard]] bool local_address_of(int fd, dibs::inet_address& to) noexcept;

}  // namespace dibsock::detail
