// SPDX-License-Identifier: Apache-2.0
#pragma once
// How two ends find each other: the listener that an acceptor publishes, and
// the client that it expects.

#include <devices/inet.hpp>
#include <devices/rendezvous.hpp>
#include <smcd/connection.hpp>
#include <smcd/stack.hpp>
#include <transport/detail/link.hpp>

#include <boost/asio/ip/tcp.hpp>

#include <memory>

namespace dibsock::detail {

// A socket's address as the rendezvous knows it.
[[nodiscard]] dibs::inet_address key_of(const boost::asio::ip::tcp::endpoint&) noexcept;

// A client from before connect() until its connection has begun.
class connecting {
 public:
  // `fd` will connect to `remote`.
  connecting(std::shared_ptr<smcd::stack>, int fd, dibs::inet_address remote) noexcept;
  connecting(const connecting&) = delete;
  connecting& operator=(const connecting&) = delete;
  ~connecting();

  // `fd` is connected.
  [[nodiscard]] introduction introduce() noexcept;
  // Its connection has begun, and tells the listener what to expect.
  void dismiss() noexcept { stack_ = nullptr; }

 private:
  std::shared_ptr<smcd::stack> stack_;
  smcd::socket_name name_;
  int fd_;
};

// The listener of an acceptor. One thread at a time.
class published_listener {
 public:
  published_listener() noexcept = default;
  published_listener(const published_listener&) = delete;
  published_listener& operator=(const published_listener&) = delete;
  ~published_listener() { withdraw(); }

  // `fd` is bound and listens.
  void publish(std::shared_ptr<smcd::stack>, int fd) noexcept;
  void withdraw() noexcept;

  // `fd` was accepted from `remote`.
  [[nodiscard]] introduction introduce(int fd, const dibs::inet_address& remote) const noexcept;

 private:
  std::shared_ptr<smcd::stack> stack_;
  dibs::listener_entry* entry_ = nullptr;
  int owner_ = 0;  // the process that published it
  std::uint64_t netns_ = 0;
  dibs::inet_address address_;
};

}  // namespace dibsock::detail
