// SPDX-License-Identifier: Apache-2.0
#pragma once
// How two ends find each other: the listener that an acceptor publishes, and
// the mark that a connecting client leaves there.

#include <devices/inet.hpp>
#include <devices/rendezvous.hpp>
#include <smcd/connection.hpp>
#include <smcd/stack.hpp>

#include <memory>

namespace dibsock::detail {

// A client between connect() and its record: meanwhile the acceptor knows that
// a capable client is coming. One thread at a time.
class connecting_mark {
 public:
  connecting_mark() noexcept = default;
  // Looks for the listener that the socket `fd` would meet at `remote`.
  connecting_mark(std::shared_ptr<smcd::stack>, int fd, dibs::inet_address remote) noexcept;
  connecting_mark(connecting_mark&& other) noexcept
      : stack_(std::move(other.stack_)),
        entry_(std::exchange(other.entry_, nullptr)),
        state_(other.state_) {}
  connecting_mark& operator=(connecting_mark&&) = delete;
  ~connecting_mark();

  // Does whoever accepts there speak SMC-D?
  [[nodiscard]] bool has_listener() const noexcept { return entry_ != nullptr; }

 private:
  std::shared_ptr<smcd::stack> stack_;
  dibs::listener_entry* entry_ = nullptr;
  std::uint32_t state_ = 0;  // tells our listener from a later one in its place
};

// The listener of an acceptor. One thread at a time.
class published_listener {
 public:
  published_listener() noexcept = default;
  published_listener(published_listener&& other) noexcept { *this = std::move(other); }
  published_listener& operator=(published_listener&& other) noexcept {
    std::swap(stack_, other.stack_);
    std::swap(entry_, other.entry_);
    std::swap(owner_, other.owner_);
    return *this;
  }
  ~published_listener() { withdraw(); }

  // `fd` is bound and listens.
  void publish(std::shared_ptr<smcd::stack>, int fd) noexcept;
  void withdraw() noexcept;

  // May this accepted connection find its client in the rendezvous?
  [[nodiscard]] bool may_meet(const smcd::socket_name&) const noexcept;

 private:
  std::shared_ptr<smcd::stack> stack_;
  dibs::listener_entry* entry_ = nullptr;
  int owner_ = 0;  // the process that published it
};

}  // namespace dibsock::detail
