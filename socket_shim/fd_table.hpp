// SPDX-License-Identifier: Apache-2.0
#pragma once
// What we know of the program's file descriptors. Most are nothing to us, and
// finding that out costs two loads. Unknown always means: plain libc call.

#include <smcd/connection.hpp>
#include <socket_shim/pool.hpp>

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>

namespace shim {

class epoll_set;
struct member;

// One intercepted socket of this process; several descriptors after dup().
struct endpoint {
  // in_kernel_set: a TCP socket that is no stream yet, but is registered with
  // an epoll set already.
  enum class kind_of : std::uint8_t { free, stream, listener, epoll, in_kernel_set };

  std::atomic<kind_of> kind{kind_of::free};
  std::atomic<std::uint32_t> descriptors{0};
  // Calls that are inside, and what became of the endpoint: once its last
  // descriptor is closed, the last call out finishes it.
  std::atomic<std::uint32_t> pins{0};
  static constexpr std::uint32_t is_closing = 0x80000000;
  static constexpr std::uint32_t is_finished = 0x40000000;

  // stream
  smcd::connection link;
  std::atomic<bool> is_orphan{false};  // not switched when it was inherited by fork
  // O_NONBLOCK and the timeouts, as far as the kernel was asked already.
  enum mode : std::uint8_t { unknown, blocking, non_blocking };
  std::atomic<mode> modes{unknown};
  std::atomic<bool> was_shared{false};  // with another process, since it was opened
  static constexpr std::uint64_t not_asked = ~std::uint64_t{0};
  std::atomic<std::uint64_t> receive_timeout_us{not_asked};  // 0: none
  std::atomic<std::uint64_t> send_timeout_us{not_asked};
  // Ticks when its number was last seen to be this socket's.
  std::atomic<std::uint64_t> verified{0};
  std::atomic<std::size_t> low_mark{1};   // SO_RCVLOWAT
  std::atomic<member*> members{nullptr};  // its places in epoll sets
  std::atomic<std::uint32_t> synced{0};   // what these were last told (epoll.cpp)

  // listener: the entry by which clients know of it, and what its state word
  // said then; null if there is none, or it is not TCP
  std::atomic<dibs::listener_entry*> listener{nullptr};
  std::atomic<std::uint64_t> listener_state{0};
  std::uint32_t owner_pid = 0;  // who published it
  // False when whoever published it is gone.
  [[nodiscard]] bool is_announced() const noexcept {
    const dibs::listener_entry* entry = listener.load(std::memory_order_acquire);
    return entry != nullptr && entry->state.load(std::memory_order_relaxed) ==
                                   listener_state.load(std::memory_order_relaxed);
  }

  // epoll
  std::atomic<epoll_set*> set{nullptr};

  std::atomic<endpoint*> next_free{nullptr};
  endpoint* next_live = nullptr;  // list of all ever made, for fork
};

class fd_table {
 public:
  // Null: not ours.
  [[nodiscard]] endpoint* find(int fd) const noexcept {
    if (static_cast<unsigned>(fd) >= pages * page_entries) [[unlikely]]
      return nullptr;
    const auto* page =
        pages_[static_cast<unsigned>(fd) / page_entries].load(std::memory_order_acquire);
    if (page == nullptr) return nullptr;
    return page[static_cast<unsigned>(fd) % page_entries].load(std::memory_order_acquire);
  }
  // Puts an endpoint (or null) behind a number and gives what stood there.
  endpoint* exchange(int fd, endpoint* what) noexcept;
  // The lowest number from `first` on with an endpoint behind it, or -1.
  [[nodiscard]] int next(unsigned first) const noexcept;

 private:
  static constexpr std::size_t pages = 2048;
  static constexpr std::size_t page_entries = 512;
  using entry = std::atomic<endpoint*>;
  std::atomic<entry*> pages_[pages]{};
};

}  // namespace shim
