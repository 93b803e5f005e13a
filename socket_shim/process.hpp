// SPDX-License-Identifier: Apache-2.0
#pragma once
// This process as the shim knows it: its descriptors, its stack on the fabric,
// and what fork makes of both.

#include <devices/alone.hpp>
#include <devices/lock.hpp>
#include <smcd/stack.hpp>
#include <socket_shim/fd_table.hpp>
#include <socket_shim/inheritance.hpp>

#include <cstdint>
#include <utility>

namespace shim {

// An endpoint that cannot go away, or null.
class pinned {
 public:
  pinned() noexcept = default;
  explicit pinned(endpoint& held) noexcept : held_(&held) {}
  pinned(pinned&& other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
  pinned& operator=(pinned&& other) noexcept {
    std::swap(held_, other.held_);
    return *this;
  }
  ~pinned() {
    if (held_ != nullptr) unpin(*held_);
  }
  static void unpin(endpoint&) noexcept;

  explicit operator bool() const noexcept { return held_ != nullptr; }
  endpoint* operator->() const noexcept { return held_; }
  endpoint& operator*() const noexcept { return *held_; }

 private:
  endpoint* held_ = nullptr;
};

class process {
 public:
  [[nodiscard]] endpoint* find(int fd) const noexcept { return table_.find(fd); }

  // A stream that may leave TCP or is on DMBs: the only ones whose bytes are
  // our business. It stays what it is while the result lives, also when
  // another thread closes fd meanwhile.
  [[nodiscard]] pinned find_live(int fd) noexcept;
  // Finishes an endpoint that is closing, unless somebody is inside or did so.
  // `fd` is -1 when the number may stand for another socket by now.
  void finish_last(endpoint&, int fd) noexcept;

  // The stack, opened at first use. Null if there is none to be had: then
  // everything stays on TCP.
  [[nodiscard]] smcd::stack* stack() noexcept;
  [[nodiscard]] const smcd::config& settings() noexcept;

  // Two threads may come to a set or a listener for the first time.
  [[nodiscard]] dibs::shared_lock& first_use() noexcept { return first_use_; }

  // False in the child of vfork or of a bare clone: it must change nothing of
  // the memory that it shares with its parent.
  [[nodiscard]] bool is_self() noexcept;

  // Descriptors. A new endpoint, not yet behind any number; or null.
  [[nodiscard]] endpoint* make(endpoint::kind_of) noexcept;
  // Puts an endpoint behind fd; what stood there is dropped.
  void put(int fd, endpoint*) noexcept;
  // Takes back an endpoint that was never put anywhere.
  void discard(endpoint*) noexcept;
  // To be called before the kernel closes or replaces fd.
  void drop(int fd) noexcept;
  // The kernel gave out fd anew: whatever we knew was closed behind our back.
  void drop_stale(int fd) noexcept;
  // The same for what a call gave that makes descriptors; gives it back.
  int fresh(int fd) noexcept {
    forget_new(fd);
    if (fd >= 0 && find(fd) != nullptr) [[unlikely]]
      drop_stale(fd);
    return fd;
  }
  // The socket that socket() made last, if it is TCP: saves asking the kernel.
  void note_new(int fd) noexcept { new_tcp_.store(fd, std::memory_order_relaxed); }
  void forget_new(int fd) noexcept {
    if (new_tcp_.load(std::memory_order_relaxed) == fd) note_new(-1);
  }
  [[nodiscard]] bool take_new(int fd) noexcept {
    return fd >= 0 && new_tcp_.compare_exchange_strong(fd, -1, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint32_t pid() const noexcept { return pid_.load(std::memory_order_relaxed); }
  // Others may hold what this process holds.
  [[nodiscard]] bool has_forked() const noexcept {
    return has_forked_.load(std::memory_order_relaxed);
  }
  // After a successful dup. False in a child of vfork, for a socket of ours.
  [[nodiscard]] bool share(int from, int to) noexcept;
  // Drops every descriptor from first to last, but not our own.
  void drop_range(unsigned first, unsigned last) noexcept;

  // The kernel is asked for something that only TCP has: bytes of the program
  // go over TCP from here on, what the peer sent is read where it is.
  void retire(int fd) noexcept;
  // Somebody will use the socket who knows nothing of us. `drains`: another
  // program, and this one may go on; else the kernel itself.
  using after_leaving = smcd::connection::after_leaving;
  void give_to_kernel(int fd, after_leaving) noexcept;
  // For a new program beside this one or, with an inheritance, in its place.
  void retire_inheritable(inheritance* = nullptr) noexcept;
  // Around an exec: what it closes is no longer ours, unless it fails.
  void before_exec(inheritance&) noexcept;
  void after_failed_exec() noexcept;

  // Numbers may change their meaning where no hook can see it: threads have
  // tables of their own, or a ring (io_uring) closes and opens. Connections come
  // back to TCP, new ones stay there, and who asks for one that is not back yet
  // gets it only if the kernel says that it is the one.
  void distrust_numbers() noexcept;
  [[nodiscard]] bool trusts_numbers() const noexcept {
    return !is_distrustful_.load(std::memory_order_relaxed);
  }
  // Before a clone with these flags: does what is due if it is neither a fork
  // nor a thread.
  void before_clone(std::uint64_t flags) noexcept;
  // Is it still this socket behind the number? Asks the kernel.
  [[nodiscard]] bool is_behind(const endpoint&, int fd) noexcept;

  // To be called by a thread that sleeps: every few seconds all connections rest,
  // also those that nobody waits for. Unless it `is_quiet`, because a sleep ended
  // with nothing, a few at a time: somebody may wait for what the thread does next.
  void rest(bool is_quiet) noexcept;

  void log(const char* format, ...) noexcept __attribute__((format(printf, 2, 3)));

  // pthread_atfork, and the library's destructor.
  void before_fork() noexcept;
  void after_fork_in_parent() noexcept;
  void after_fork_in_child() noexcept;
  void leave() noexcept;

 private:
  // False if that cannot be without giving wrong bytes.
  [[nodiscard]] bool bring_back(int fd, after_leaving) noexcept;
  // The last descriptor is gone: finish now, or when the last call is out.
  void close_endpoint(endpoint&, int fd) noexcept;
  void finish(endpoint&, int fd) noexcept;
  void adopt_orphan(endpoint&) noexcept;
  void open_stack() noexcept;
  template <class Visit>
  void for_each_stream(Visit visit) noexcept;
  void settle_sets() noexcept;
  [[nodiscard]] bool has_inheritable_set() noexcept;
  [[nodiscard]] static bool is_inheritable(int fd) noexcept;

  fd_table table_;
  pool<endpoint> endpoints_;
  std::atomic<endpoint*> live_{nullptr};
  std::atomic<smcd::stack*> stack_{nullptr};
  std::atomic<bool> is_decided_{false};  // whether there is a stack
  dibs::shared_lock opening_;
  dibs::shared_lock first_use_;
  std::atomic<std::uint32_t> pid_{0};
  std::atomic<int> new_tcp_{-1};
  std::atomic<std::uint64_t> rested_at_{0};   // ticks when the last round of rests began
  static constexpr unsigned no_rest = ~0U;    // none is under way, or somebody is at it
  std::atomic<unsigned> next_rest_{no_rest};  // number that the round has come to
  std::atomic<bool> has_forked_{false};
  std::atomic<bool> has_left_{false};
  std::atomic<bool> is_distrustful_{false};
  std::atomic<bool> has_settings_{false};
  smcd::config settings_{};
};

extern constinit process self;

inline pinned process::find_live(int fd) noexcept {
  for (;;) {
    endpoint* found = table_.find(fd);
    if (found == nullptr ||
        found->kind.load(std::memory_order_relaxed) != endpoint::kind_of::stream) [[likely]]
      return {};
    // For good, unless it was closed meanwhile.
    if (found->link.is_plain() && table_.find(fd) == found) return {};
    dibs::count_up(found->pins);
    // It may have been closed meanwhile, and even be another one by now. What
    // the table still shows while it is pinned, stays.
    pinned held(*found);
    if (table_.find(fd) != found ||
        found->kind.load(std::memory_order_relaxed) != endpoint::kind_of::stream) {
      continue;
    }
    if (found->link.is_plain()) return {};
    if (!trusts_numbers() && !is_behind(*found, fd)) [[unlikely]]
      return {};
    if (found->is_orphan.load(std::memory_order_relaxed)) [[unlikely]]
      adopt_orphan(*found);
    return held;
  }
}

template <class Visit>
void process::for_each_stream(Visit visit) noexcept {
  for (endpoint* at = live_.load(std::memory_order_acquire); at != nullptr;
       at = at->next_live == at ? nullptr : at->next_live) {
    if (at->kind == endpoint::kind_of::stream && at->link.is_open()) visit(*at);
  }
}

inline void pinned::unpin(endpoint& held) noexcept {
  if (dibs::count_down(held.pins) == (endpoint::is_closing | 1)) [[unlikely]] {
    self.finish_last(held, -1);
  }
}

}  // namespace shim
