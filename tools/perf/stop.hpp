// SPDX-License-Identifier: Apache-2.0
#pragma once
// Ctrl-C. The first one asks for a good end, a second one ends at once.

namespace tools::perf {

// SIGINT and SIGTERM from here on. Calls that wait return with EINTR.
void stop_on_signals() noexcept;
[[nodiscard]] bool is_stopping() noexcept;

// A socket that waits for others: the signal shuts it down, so that a call
// which waits on it returns even if it only begins after the signal.
class stoppable {
 public:
  explicit stoppable(int fd) noexcept;
  stoppable(const stoppable&) = delete;
  stoppable& operator=(const stoppable&) = delete;
  // To be destroyed before the socket is closed.
  ~stoppable();

 private:
  int place_;
};

}  // namespace tools::perf
