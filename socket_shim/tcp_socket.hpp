// SPDX-License-Identifier: Apache-2.0
#pragma once
// The TCP lane over the program's own socket: the kernel's calls, none of
// which blocks or raises SIGPIPE.

#include <smcd/connection.hpp>
#include <smcd/tcp_lane.hpp>

namespace shim {

class tcp_socket final : public smcd::tcp_lane {
 public:
  explicit tcp_socket(int fd) noexcept : fd_(fd) {}

  [[nodiscard]] smcd::result<std::size_t> receive(std::span<std::byte> to) noexcept override;
  [[nodiscard]] smcd::result<std::size_t> peek(std::span<std::byte> to) noexcept override;
  [[nodiscard]] smcd::result<std::size_t> send(std::span<const std::byte> from) noexcept override;
  [[nodiscard]] smcd::result<std::size_t> receive_parts(smcd::buffers to,
                                                        bool is_peek) noexcept override;
  [[nodiscard]] smcd::result<std::size_t> send_parts(smcd::buffers from) noexcept override;
  [[nodiscard]] std::size_t unread() noexcept override;
  void hurry() noexcept override;
  [[nodiscard]] bool has_hung_up() noexcept override;
  [[nodiscard]] bool counters(std::uint64_t& written, std::uint64_t& read) noexcept override;
  [[nodiscard]] bool identify(smcd::socket_identity&) noexcept override;
  [[nodiscard]] bool may_leave_tcp() noexcept override;
  [[nodiscard]] std::uint32_t wanted_buffer() noexcept override;
  [[nodiscard]] bool may_read(smcd::buffers, std::size_t) noexcept override;
  [[nodiscard]] bool may_write(smcd::buffers, std::size_t) noexcept override;

 private:
  int fd_;
};

// Is it a TCP socket? Requires a socket of AF_INET or AF_INET6.
[[nodiscard]] bool is_tcp(int fd) noexcept;

// Is it a listening socket, of whatever family?
[[nodiscard]] bool is_listening(int fd) noexcept;

// What the kernel knows of a socket. False or 0 if it does not say.
[[nodiscard]] bool local_address(int fd, dibs::inet_address& to) noexcept;
[[nodiscard]] std::uint64_t netns_of(int fd) noexcept;
[[nodiscard]] bool cookie_of(int fd, std::uint64_t& to) noexcept;

}  // namespace shim
