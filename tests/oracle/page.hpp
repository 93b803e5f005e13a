// SPDX-License-Identifier: Apache-2.0
#pragma once
// Memory that the driver shares with the players of a program: the steps, what
// came of them, who is to take the next one, and the books.
//
// One actor at a time holds the baton. So nearly every word here has one
// writer at a time, and the baton orders the accesses.

#include "program.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <ctime>

namespace oracle {

inline constexpr std::size_t max_steps = 128;
inline constexpr std::size_t max_ends = 16;  // two of each connection
inline constexpr std::size_t max_fds = 256;
inline constexpr std::size_t slot_count = 24;
inline constexpr std::size_t listener_count = 4;

namespace status {
enum code : std::uint32_t { none, skipped, running, done, killed };
}

// What a program can see of a call.
struct entry {
  std::atomic<std::uint32_t> at;
  std::int32_t error;    // errno; untouched if the call left it alone
  std::int64_t value;    // what the call gave
  std::uint64_t hash;    // of the bytes that came
  std::int32_t signals;  // SIGPIPE so far
  std::int32_t late;     // ends whose bytes had not arrived before; not compared
  std::int32_t extra_count;
  std::array<std::int64_t, 12> extra;
};
inline constexpr std::int32_t untouched = 7777;
// In the extras of epoll_wait: an edge-triggered event that is true.
inline constexpr std::int64_t true_edge = std::int64_t{1} << 62;

// One end of a connection, whatever descriptors stand for it.
struct end_book {
  std::atomic<std::uint64_t> written;  // by the program
  std::atomic<std::uint64_t> read;
  std::atomic<std::uint64_t> sent;        // by the kernel's TCP, CLC messages included
  std::atomic<std::uint64_t> most_saved;  // bytes that at some time had not gone over TCP
  std::atomic<std::uint32_t> unsent;      // that TCP took and found no window for
  std::int32_t holders;                   // descriptors in all processes
  bool is_used, is_nonblocking, has_timeout, shut_read, shut_write, is_gone;
  bool resets;            // its close will (SO_LINGER)
  bool expects_reset;     // the peer's kernel has sent one, or will
  bool is_haunted;        // by a holder that was killed, or another program
  bool had_bulk;          // more unread than must have arrived, at any time
  bool trickles;          // had more unread than must have arrived, at the last wait
  std::int32_t low_mark;  // SO_RCVLOWAT
  std::int32_t calls;     // that moved bytes
};

enum class fd_kind : std::uint8_t { none, listener, stream, epoll, other };

struct process_book {
  std::atomic<std::uint32_t> is_alive;
  std::int32_t pid;
  std::array<std::int32_t, slot_count> slots;
  std::array<fd_kind, max_fds> kinds;
  std::array<std::int16_t, max_fds> things;  // end, or number of the listener
};

struct listener_book {
  std::uint32_t address;  // as the network has it
  std::uint16_t port;
  std::int32_t holders;
  std::uint32_t accepted;
  std::uint32_t connected;
  std::array<std::int16_t, 16> queue;  // ends of clients
};

struct page {
  // An order to an actor: a step's number + 1, or one of these.
  static constexpr std::uint32_t clean_up = 1u << 30;
  static constexpr std::uint32_t leave = clean_up + 1;
  static constexpr std::uint32_t look = clean_up + 2;
  std::array<std::atomic<std::uint32_t>, actor_count> orders;
  std::array<std::atomic<std::uint32_t>, actor_count> actors;  // are there
  std::int32_t driver_pid;
  std::uint32_t address_salt;

  std::uint32_t step_count;
  std::uint32_t end_count;
  bool has_sets;            // an epoll set was made
  bool has_low_marks;       // SO_RCVLOWAT was set
  std::uint32_t unsettled;  // steps before which bytes did not arrive in time
  std::uint32_t stuck;      // how often TCP did not deliver, or threw away, bytes that it took
  std::array<step, max_steps> steps;
  std::array<entry, max_steps> log;
  std::array<end_book, max_ends> ends;
  std::array<process_book, process_count> processes;
  std::array<listener_book, listener_count> listeners;
};

[[nodiscard]] constexpr std::size_t peer_of(std::size_t end) { return end ^ 1; }

// ---- waiting ---------------------------------------------------------------

inline void wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}
inline void await_change(std::atomic<std::uint32_t>& word, std::uint32_t seen, int ms) {
  const timespec limit{ms / 1000, ms % 1000 * 1'000'000L};
  ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, &limit, nullptr, 0);
}
inline void order(page& in, std::size_t who, std::uint32_t what) {
  in.orders[who].store(what);
  wake(in.orders[who]);
}

// True once `who` was given the order `what`; not after so many ms.
inline bool await_order(page& in, std::size_t who, std::uint32_t what, int ms) {
  for (; in.orders[who].exchange(0) != what; ms -= 10) {
    if (ms <= 0) return false;
    await_change(in.orders[who], 0, 10);
  }
  return true;
}
// A process looks at all its connections: then it has taken what there is of a
// handshake. Whom it answers.
[[nodiscard]] constexpr std::size_t maker_of(std::size_t process) {
  return process < 2 ? std::size_t{driver} : process - 2;
}
inline void let_look(page& in, std::size_t process) {
  order(in, process, page::look);
  static_cast<void>(await_order(in, maker_of(process), page::look, 2000));
}

// Gives the baton to whoever is to take the first step from `next` on.
inline void pass_baton(page& in, std::uint32_t next) {
  for (; next < in.step_count; ++next) {
    const std::size_t who = in.steps[next].who;
    if (who == driver || in.actors[who].load() != 0) return order(in, who, next + 1);
    in.log[next].at.store(status::skipped);
  }
  order(in, driver, in.step_count + 1);
}

inline void finish_entry(entry& of, status::code as) {
  of.at.store(as);
  wake(of.at);
}
// The step before, if it overlaps this one, comes to its end.
inline void await_overlapped(page& in, std::uint32_t step_number) {
  if (step_number == 0) return;
  entry& before = in.log[step_number - 1];
  while (before.at.load() == status::running) {
    await_change(before.at, status::running, 1000);
  }
}

}  // namespace oracle
