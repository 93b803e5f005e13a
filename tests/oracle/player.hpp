// SPDX-License-Identifier: Apache-2.0
#pragma once
// Takes the steps of one actor: makes the calls, and writes down what a program
// sees of them.

#include "books.hpp"

#include <cerrno>

namespace oracle {

// Per actor. Bytes are read and written from here.
inline constexpr std::size_t memory_size = 4u << 20;

// One step that is being taken.
struct call {
  page& in;
  books& book;
  const step& of;
  entry& log;
  std::uint8_t* memory;
  std::uint32_t number;
  bool is_offered;        // the next step may be taken while this one waits
  bool overlaps = false;  // it is

  [[nodiscard]] int arg(std::size_t i) const { return of.args[i]; }
  [[nodiscard]] int fd() const { return book.fd_of(of.args[0]); }
  void note(std::int64_t value) {
    if (log.extra_count < static_cast<int>(log.extra.size())) {
      log.extra[static_cast<std::size_t>(log.extra_count++)] = value;
    }
  }
  // Makes one call of libc's and keeps what it gave.
  template <class Make>
  std::int64_t make(Make one) {
    errno = untouched;
    log.value = static_cast<std::int64_t>(one());
    log.error = errno;
    return log.value;
  }
  // Lets the next actor begin: this call is about to wait for it.
  void overlap() {
    overlaps = true;
    pass_baton(in, number + 1);
  }
  [[nodiscard]] const step& next() const { return in.steps[number + 1]; }
  // The step that waits for this one; null if none does.
  [[nodiscard]] const step* waiting() const {
    return number > 0 && in.log[number - 1].at.load() == status::running ? &in.steps[number - 1]
                                                                         : nullptr;
  }
  // What would wait for ever, or is not determined, is left out in both runs.
  void skip() { log.value = -1000; }
};

void take_socket_step(call&);
void take_reading_step(call&);
void take_writing_step(call&);
void take_waiting_step(call&);

// Asked with c.is_offered. Does the next step end a wait of `end` for `size` bytes?
[[nodiscard]] bool next_step_feeds(const call& c, int end, std::uint64_t size);
// Does it make something ready, at once and not bit by bit?
[[nodiscard]] bool next_step_tells(const call& c);
// The end that a step of whichever process is about; -1.
[[nodiscard]] int end_of_step(page&, const step&);

}  // namespace oracle
