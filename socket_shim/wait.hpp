// SPDX-License-Identifier: Apache-2.0
#pragma once
// Blocking, the way the kernel's calls block: until ready, a timeout, or a
// signal. First a spin on memory, then a sleep on {bell, descriptors}.

#include <devices/alone.hpp>
#include <devices/event_queue.hpp>
#include <devices/spin.hpp>
#include <socket_shim/fd_table.hpp>

#include <poll.h>

#include <csignal>
#include <cstdint>

namespace shim {

// A point of CLOCK_MONOTONIC, or never.
class deadline {
 public:
  [[nodiscard]] static deadline never() noexcept { return {}; }
  [[nodiscard]] static deadline after_us(std::uint64_t us) noexcept;
  [[nodiscard]] static deadline after(const timespec* timeout) noexcept;  // null: never
  [[nodiscard]] static deadline after_ms(int timeout) noexcept;           // negative: never

  [[nodiscard]] bool is_never() const noexcept { return at_ns_ == forever; }
  [[nodiscard]] bool is_over() const noexcept;
  [[nodiscard]] deadline sooner_us(std::uint64_t us) const noexcept;  // at most that far away
  [[nodiscard]] timespec left() const noexcept;

 private:
  static constexpr std::uint64_t forever = ~std::uint64_t{0};
  std::uint64_t at_ns_ = forever;
};

// As the kernel wants a timeout to be. False also for memory that is not there.
[[nodiscard]] bool is_time(const timespec*) noexcept;

// One sleeper: a thread, or an epoll set. Its queue is opened at first use.
class sleeper {
 public:
  // False if there is no queue to be had: then sleep in short pieces.
  [[nodiscard]] bool prepare() noexcept;
  void abandon() noexcept;  // in a forked child
  [[nodiscard]] dibs::event_queue& queue() noexcept { return queue_; }
  [[nodiscard]] dibs::spin_budget& spin() noexcept { return spin_; }

  bool has_spun = false;  // just now and in vain

  std::atomic<sleeper*> next_free{nullptr};
  sleeper* next_live = nullptr;

 private:
  dibs::event_queue queue_;
  dibs::spin_budget spin_;
};

// The calling thread's own. Null without memory.
[[nodiscard]] sleeper* this_sleeper() noexcept;
// A sleeper for an epoll set; release_sleeper() takes it back.
[[nodiscard]] sleeper* make_sleeper() noexcept;
void release_sleeper(sleeper*) noexcept;
// In a forked child: the parent's queues are not ours.
void reset_waiting() noexcept;

// How long a sleep may be where nobody promised to ring, microseconds.
inline constexpr std::uint64_t unsure_us = 1000;

// The longest spin in ticks.
[[nodiscard]] std::uint64_t longest_spin() noexcept;

// What a thread that is cancelled in its sleep has to give back: destructors do
// not run then, because an unwinder that knew of ours would have to be linked.
struct rollback {
  void (*run)(void*);
  void* of;
};

// ppoll, with the descriptors of `fds` and as last entry room for the bell. The
// only place of ours where a thread may be cancelled.
int sleep_on(sleeper*, pollfd* fds, nfds_t count, const deadline&, const sigset_t*, rollback);

using dibs::is_alone;

// After EINTR: would every handler that is installed have restarted the call?
[[nodiscard]] bool handlers_restart() noexcept;

// Looks for input of a live stream for a short while; true: there may be some.
[[nodiscard]] bool spin_for_input(endpoint&) noexcept;

enum class woken : std::uint8_t { ready, timeout, interrupted };
// Waits until `events` (POLLIN or POLLOUT) may be true of a live stream, which
// the calling thread has pinned once.
[[nodiscard]] woken wait_stream(endpoint&, int fd, short events, const deadline&);

// What the kernel has to watch on the TCP lane while a thread waits for that,
// in memory or on TCP.
[[nodiscard]] short tcp_events(const endpoint&, short events, bool is_memory) noexcept;

// SO_RCVLOWAT, at least 1.
[[nodiscard]] std::size_t low_mark_of(endpoint&, int fd) noexcept;

// The kernel said that the TCP lane is readable: is it, to the program? Not for
// bytes of the handshake alone, nor for a low mark that these alone reach.
[[nodiscard]] bool is_true_input(endpoint&, int fd) noexcept;

// What the kernel told when it was asked for `asked`, and what belongs to it if
// the end of the stream came in at that time. `is_talking`: or a little later,
// told of bytes of the handshake.
[[nodiscard]] short whole_end(endpoint&, int fd, short asked, short told, bool is_talking) noexcept;

}  // namespace shim
