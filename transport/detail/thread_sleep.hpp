// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a thread sleeps in a synchronous call: on the TCP lane and on the bell
// of an event queue that is the thread's own.

#include <smcd/connection.hpp>
#include <smcd/stack.hpp>

#include <cstdint>
#include <memory>

namespace dibsock::detail {

class thread_sleep {
 public:
  // Arms the thread's queue for `connection`; null for plain TCP. From here on
  // nothing is missed: look once more, then sleep.
  thread_sleep(smcd::connection* connection, const std::shared_ptr<smcd::stack>&) noexcept;
  thread_sleep(const thread_sleep&) = delete;
  thread_sleep& operator=(const thread_sleep&) = delete;
  ~thread_sleep();

  [[nodiscard]] bool is_entered() const noexcept { return is_entered_; }

  enum class woken : std::uint8_t { by_bell, by_tcp, by_time, interrupted };
  // `events` of poll(2) on `fd`, which may be none. With `is_short` for a
  // millisecond at most, with `is_unsure` for some.
  [[nodiscard]] woken until(int fd, short events, bool is_short, bool is_unsure) noexcept;

 private:
  smcd::connection* connection_;
  std::uint64_t word_ = 0;
  bool is_entered_ = false;
};

}  // namespace dibsock::detail
