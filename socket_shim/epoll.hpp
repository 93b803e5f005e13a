// SPDX-License-Identifier: Apache-2.0
#pragma once
// epoll over the kernel's set and the event queue. The kernel's set stays the
// truth for everything that is not a live stream, and for what only TCP knows
// of those: end of stream, errors, the handshake. Bytes and room in DMBs come
// from the set's event queue.

#include <socket_shim/fd_table.hpp>
#include <socket_shim/wait.hpp>

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace shim {

// One live stream in one set. The kernel's registration carries the address of
// this object in place of the program's data, which is kept here untouched.
struct member {
  epoll_set* set = nullptr;  // null: not in use
  endpoint* stream = nullptr;
  int fd = -1;
  std::uint32_t wanted = 0;  // what the program asked for, with EPOLLET etc.
  epoll_data_t data{};
  std::uint32_t in_kernel = 0;  // what the kernel's registration says
  std::uint16_t bit = 0;        // in the set's event queue; several may share one
  bool is_pending = false;      // stands in the list of those to look at
  bool has_news = false;        // because something happened
  bool is_spent = false;        // EPOLLONESHOT has fired
  bool is_deaf = false;         // found no place among the waiters of its stream
  bool has_dmb = false;         // its stream did when last looked at
  bool is_off_tcp = false;      // what comes for its stream did not take TCP then
  bool is_parked = false;       // the program took it out, and the kernel was not told yet
  std::uint32_t turn = 0;       // the wait that reported it last, and where
  int place = 0;
  member* next_of_bit = nullptr;
  member* next_pending = nullptr;
  member* next_of_stream = nullptr;
  member* next_parked = nullptr;
  member* next_free = nullptr;
};

// What tells of room on TCP.
inline constexpr std::uint32_t any_room = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;

// Any thread. A signal handler must not use the set that its thread waits on.
class epoll_set {
 public:
  void open(int epfd) noexcept;
  void close() noexcept;

  // As epoll_ctl(2) on a live stream. -1 and errno.
  int add(endpoint&, int fd, const epoll_event&) noexcept;
  int modify(member&, const epoll_event&) noexcept;
  int remove(member&) noexcept;
  // Many programs take a socket out and put it in again with every message. So the
  // kernel hears of the former only when a thread is about to sleep. True if that
  // was so and the member is in again; false: add it.
  [[nodiscard]] bool readmit(member&, const epoll_event&) noexcept;
  // Before others look at the kernel's set: it is told of all.
  void settle_parked() noexcept;
  [[nodiscard]] bool has_members() const noexcept {
    return count_.load(std::memory_order_relaxed) > 0 || is_haunted_;
  }

  // As epoll_pwait2(2). A thread may be cancelled inside.
  int wait(int epfd, epoll_event* to, int count, const deadline&, const sigset_t*);

  // A thread that found no member with a DMB may sleep in the kernel's own call,
  // where it hears no bell: true counts it in, and the first such member wakes it up.
  // Afterwards leave_kernel() turns the kernel's answer into the program's, or
  // says false: go on with wait().
  [[nodiscard]] bool enter_kernel() noexcept;
  [[nodiscard]] bool leave_kernel(epoll_event* to, int count, int& answer) noexcept;

  // The stream of a member changed lane.
  void follow(member&) noexcept;
  // Only that of what it receives: nothing to those who wait.
  void follow_receiving(member&) noexcept;
  // The member's stream is closed; the kernel forgets it by itself.
  void forget(member&) noexcept;
  // A descriptor is closed, while others of the same socket may stay open. The
  // kernel would go on telling of it under the old number; nobody can want that.
  void leave(member&, bool is_shared) noexcept;
  // Somebody waits for this set in a way that cannot see the event queue: its
  // streams stay on TCP.
  void pin_to_tcp() noexcept;

  std::atomic<epoll_set*> next_free{nullptr};

 private:
  // A child of fork finds its parent's queue closed.
  [[nodiscard]] bool has_queue() const noexcept {
    return has_queue_.load(std::memory_order_acquire) && sleeper_ != nullptr &&
           sleeper_->queue().is_open();
  }
  struct waiting;
  // One look at everything, for one caller of wait(): others look meanwhile.
  struct turn {
    epoll_event* to;
    int count;
    int done = 0;
    std::uint32_t number = 0;      // 0: has not begun
    std::uint32_t departures = 0;  // when it began
    bool is_passed_on = false;
    int told = 0;  // entries that the kernel may tell of again, being asked again
  };
  void begin(turn&) noexcept;
  [[nodiscard]] bool look(int epfd, turn&, bool may_wait) noexcept;
  [[nodiscard]] bool is_kernel_due() const noexcept;
  // What rang. True if some stream of the set is on TCP.
  [[nodiscard]] bool gather() noexcept;
  // True if a stream was found to have changed lane: the kernel may tell more of it.
  [[nodiscard]] bool collect(turn&) noexcept;
  [[nodiscard]] bool ask_kernel(int epfd, turn&) noexcept;
  [[nodiscard]] bool wait_in_kernel(int epfd, turn&, const deadline&, const sigset_t*);
  static void leave_cancelled(void* set) noexcept;
  void report(member&, std::uint32_t events, turn&) noexcept;
  [[nodiscard]] bool spin(const turn& after) noexcept;
  int sleep(int epfd, const turn& after, const deadline&, const sigset_t*);
  // Events as the kernel told them.
  void take(std::span<const epoll_event>, turn&) noexcept;
  void take_one(const epoll_event&, bool may_be_clc, turn&) noexcept;
  [[nodiscard]] bool may_be_clc(const epoll_event&) noexcept;
  void expect_kernel_news() noexcept;
  void count_out_of_kernel() noexcept;
  void kick() noexcept;
  void end_kick() noexcept;
  [[nodiscard]] static std::optional<std::uint32_t> glance(const member&) noexcept;
  [[nodiscard]] std::uint32_t events_in_memory(member&) noexcept;
  [[nodiscard]] std::uint32_t events_from_kernel(member&, std::uint32_t events,
                                                 bool may_be_clc) noexcept;
  [[nodiscard]] std::uint32_t look_at_kernel(member&) noexcept;
  [[nodiscard]] static bool is_kernel_to_add(const member&, std::uint32_t events,
                                             bool has_news) noexcept;
  [[nodiscard]] static std::uint32_t kernel_events(const member&) noexcept;
  int tell_kernel(member&, int operation) noexcept;
  void tell_kernel_anew(member&) noexcept;
  [[nodiscard]] static bool sends_by_memory(const member&) noexcept;
  [[nodiscard]] static bool is_told_enough(const member&) noexcept;
  [[nodiscard]] bool may_park(const member&) const noexcept;
  void unpark(member&) noexcept;
  int unregister(member&) noexcept;
  void take_over() noexcept;
  void note_lane(member&) noexcept;
  // A stream that is on TCP for good is the kernel's business alone: the kernel's
  // registration becomes what the program asked for, and the member goes.
  void give_back_plain(member&) noexcept;
  void append(member&) noexcept;
  void note_news(member& of) noexcept {
    of.has_news = true;
    append(of);
  }
  void note_if_ready(member&) noexcept;
  void pass_on() noexcept;
  void note_departure() noexcept;
  void enter(member&) noexcept;
  // Threads may come for the first time together.
  void open_queue() noexcept;
  void enter_deaf() noexcept;
  template <class Visit>
  void for_each(Visit visit) noexcept;

  int epfd_ = -1;
  dibs::shared_lock lock_;
  std::atomic<std::uint32_t> count_{0};
  std::atomic<std::uint32_t> with_dmb_{0};  // members that have one
  std::uint32_t off_tcp_ = 0;               // and that receive there
  std::uint16_t next_bit_ = 0;
  std::uint32_t turns_ = 0;
  std::atomic<std::uint32_t> departures_{0};   // of threads that left something for others
  std::atomic<std::uint32_t> waiting_{0};      // threads that sleep, or are about to
  std::atomic<bool> is_spinning_{false};       // one does
  std::atomic<std::uint32_t> in_kernel_{0};    // threads that sleep there
  int kick_ = -1;                              // readable in the kernel's set until they are out
  std::uint64_t kicked_at_ = 0;                // in ticks
  std::atomic<std::uint64_t> kernel_news_{0};  // when it told, or may have had, anything; in ticks
  std::atomic<std::uint64_t> silent_at_{0};    // when it was asked and had nothing, or 0
  std::atomic<bool> is_memory_next_{false};    // the kernel took all places last time
  bool waits_for_room_ = false;                // some member's ring is full: look again soon
  bool has_moved_ = false;                     // some member's stream, while it was looked at
  bool is_pinned_ = false;
  bool is_haunted_ = false;  // by registrations that a parent process still needs
  std::uint32_t owner_ = 0;  // process that made it
  std::uint32_t user_ = 0;   // and the one that used it last
  std::atomic<bool> has_queue_{false};
  bool has_deaf_ = false;  // some member is: look again soon
  sleeper* sleeper_ = nullptr;
  member* last_reported_ = nullptr;  // whose peer is likely to speak next
  member* first_pending_ = nullptr;
  member* last_pending_ = nullptr;
  member* first_parked_ = nullptr;
  std::array<member*, dibs::queue_bits> of_bit_{};
};

template <class Visit>
void epoll_set::for_each(Visit visit) noexcept {
  if (!has_members()) return;
  for (member* chain : of_bit_) {
    while (chain != nullptr) {
      member& known = *chain;
      chain = chain->next_of_bit;
      visit(known);
    }
  }
}

// The member whose address the kernel gave, or null: the program's own data.
[[nodiscard]] member* member_behind(std::uint64_t data) noexcept;

// The set behind an epoll descriptor, made on first use; null if there is none.
[[nodiscard]] epoll_set* set_of(int epfd) noexcept;
void close_set(epoll_set*) noexcept;
// A new epoll descriptor: its set is made when somebody needs it.
void note_set(int epfd) noexcept;
// A descriptor that is nothing to us was added to some set. If it becomes a
// stream later, that stream stays on TCP.
void note_in_set(int fd) noexcept;

// After calls that may have moved a stream to another lane: its sets follow.
void sync_members_slow(endpoint&, std::uint32_t state) noexcept;
inline constexpr std::uint32_t receives_in_memory = 64;
inline std::uint32_t lanes_of(const endpoint& of) noexcept {
  return 1U + (of.link.is_established() ? 2U : 0U) + (of.link.is_plain() ? 4U : 0U) +
         (of.link.sends_on() == smcd::lane::dmb ? 8U : 0U) + (of.link.is_returning() ? 16U : 0U) +
         (of.link.has_dmb() ? 32U : 0U) +
         (of.link.receives_on() == smcd::lane::dmb ? receives_in_memory : 0U);
}
inline void tell_members(endpoint& of) noexcept {
  if (of.members.load(std::memory_order_relaxed) == nullptr) return;
  of.synced.store(0, std::memory_order_relaxed);  // whatever they know of it
  sync_members_slow(of, lanes_of(of));
}
inline void sync_members(endpoint& of) noexcept {
  if (of.members.load(std::memory_order_relaxed) == nullptr) return;
  const std::uint32_t state = lanes_of(of);
  if (of.synced.load(std::memory_order_relaxed) != state) sync_members_slow(of, state);
}

// The last descriptor of a stream, or one of several, goes away.
void leave_sets(endpoint&) noexcept;
void forget_descriptor(endpoint&, int fd) noexcept;

}  // namespace shim
