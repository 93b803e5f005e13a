// SPDX-License-Identifier: Apache-2.0
#pragma once
// The listener that an acceptor publishes, for clients to find.

#include <devices/inet.hpp>
#include <devices/rendezvous.hpp>
#include <smcd/stack.hpp>

#include <boost/asio/ip/tcp.hpp>

#include <memory>

namespace dibsock::detail {

// A socket's address as the rendezvous knows it.
[[nodiscard]] dibs::inet_address key_of(const boost::asio::ip::tcp::endpoint&) noexcept;

// A client's side, before connect(): may whoever listens there speak SMC-D?
[[nodiscard]] bool may_meet(smcd::stack*, int fd, const dibs::inet_address& remote) noexcept;

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

  [[nodiscard]] bool is_published() const noexcept { return entry_ != nullptr; }

 private:
  std::shared_ptr<smcd::stack> stack_;
  dibs::listener_entry* entry_ = nullptr;
  int owner_ = 0;  // the process that published it
};

}  // namespace dibsock::detail
