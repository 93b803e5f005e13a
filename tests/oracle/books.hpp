// SPDX-License-Identifier: Apache-2.0
#pragma once
// What is known of descriptors and connections without asking the calls under
// test: who holds what, how many bytes went in and came out. It says which
// calls would wait for ever, and when bytes must have arrived.

#include "page.hpp"

namespace oracle {

// More unread bytes than this may not have arrived for want of a window; such
// reads are made in a loop.
inline constexpr std::uint64_t determined_bytes = 24 * 1024;
// With more unread bytes than this a ring of the smallest size may be full.
inline constexpr std::uint64_t certain_room = 4096;
// As much as TCP takes on this machine without a reader, and less.
inline constexpr std::uint64_t absorbed_bytes = 1024 * 1024;

class books {
 public:
  books(page& in, std::size_t process) : in_(in), process_(process) {}

  [[nodiscard]] process_book& mine() const { return in_.processes[process_]; }
  [[nodiscard]] int fd_of(std::int32_t slot) const {
    return slot < 0 || slot >= static_cast<std::int32_t>(slot_count)
               ? -1
               : mine().slots[static_cast<std::size_t>(slot)];
  }
  [[nodiscard]] fd_kind kind_of(int fd) const {
    return fd < 0 || fd >= static_cast<int>(max_fds) ? fd_kind::none
                                                     : mine().kinds[static_cast<std::size_t>(fd)];
  }
  // The end or listener behind fd; -1 if it is no such thing.
  [[nodiscard]] int end_of(int fd) const { return thing_of(fd, fd_kind::stream); }
  [[nodiscard]] int listener_of(int fd) const { return thing_of(fd, fd_kind::listener); }

  void set_slot(std::int32_t slot, int fd);
  void opened(int fd, fd_kind, int thing = -1);
  void closed(int fd);
  void forked(std::size_t child);
  void died(std::size_t process, bool was_killed);
  // A child of this process became another program, which the library takes for
  // one that may read what is unread now.
  void lent();
  // A dead process' kernel resets a connection for bytes that the process did
  // not read: on TCP, not in a DMB. And those may be of a handshake. So a
  // connection is empty when its holder is killed, was in use for a while, and
  // was looked at just before.
  [[nodiscard]] bool may_die() const;
  // Would the last close of `end` reset the connection, and be seen to? Bytes
  // that have not arrived are lost then: how many is not determined. And the
  // library takes a process that was killed for one that still holds the socket:
  // it does not reset then (docs/shim.md).
  [[nodiscard]] bool may_close(int end) const;
  // May this process leave all that it holds?
  [[nodiscard]] bool may_leave() const;

  // A new connection's client end, in the listener's queue; -1: no room.
  [[nodiscard]] int connected(int listener);
  // The server end of the next in the queue; -1: none.
  [[nodiscard]] int accepted(int listener);

  // Bytes that `end` can read.
  [[nodiscard]] std::uint64_t unread(int end) const;
  // The peer of `end` will send no more, or `end` would not take it.
  [[nodiscard]] bool is_over(int end) const;

  // Before a step: what went to this process' ends has arrived. How many ends
  // wait for something in vain.
  [[nodiscard]] int settle();
  // What this process' ends have ended is known to their peers: TCP tells that,
  // as an edge, when it likes to.
  void await_fin_acks();
  // What this process' ends have sent, for the peer's settle().
  void publish();

 private:
  [[nodiscard]] int thing_of(int fd, fd_kind) const;
  void release(process_book&, std::size_t fd);
  void end_gone(std::size_t end);
  [[nodiscard]] bool has_arrived(int fd, std::size_t end) const;

  page& in_;
  std::size_t process_;
};

}  // namespace oracle
