// SPDX-License-Identifier: Apache-2.0
#pragma once
// An asynchronous operation as the stream sees it that it waits for. While it
// is parked the stream owns it; otherwise whoever runs its next step.

#include <smcd/error.hpp>
#include <transport/detail/link.hpp>

#include <boost/asio/cancellation_signal.hpp>

#include <cstdint>

namespace dibsock::detail {

class waiting_op {
 public:
  waiting_op(const waiting_op&) = delete;
  waiting_op& operator=(const waiting_op&) = delete;

 protected:
  // `is_looked_after`: while it spins somebody asks whether it is due.
  waiting_op(side of, bool is_looked_after) noexcept
      : side_(of), is_looked_after_(is_looked_after) {}
  ~waiting_op() = default;

  // What the last attempt gave, or operation_aborted.
  [[nodiscard]] const smcd::result<std::size_t>& outcome() const noexcept { return outcome_; }

 private:
  friend class stream;

  [[nodiscard]] virtual smcd::result<std::size_t> attempt(link&) noexcept = 0;
  // Has stream::step() called for it, on its executor.
  virtual void resume() = 0;
  // The same, at once if this thread runs that executor. No function that a
  // user called is under way.
  virtual void resume_here() = 0;
  // Ends it without a call of its handler.
  virtual void destroy() noexcept = 0;

  const side side_;
  const bool is_looked_after_;
  // All below is guarded by the mutex of that side.
  bool is_listed_ = false;  // close() and cancel() find it
  bool is_fresh_ = true;    // the initiating function has made an attempt just now
  bool is_aborted_ = false;
  bool is_joined_ = false;   // the service counts it as waiting
  bool is_entered_ = false;  // the peer rings for it
  bool is_ticking_ = false;
  bool has_tcp_wait_ = false;
  bool is_woken_by_tcp_ = false;
  std::uint8_t vain_wakes_ = 0;   // by a TCP lane that then had nothing
  std::uint64_t ticket_ = 0;      // of the present wait; 0: not parked
  std::uint64_t spin_began_ = 0;  // ticks; 0: does not spin
  std::uint64_t spin_budget_ = 0;
  boost::asio::cancellation_signal tcp_wait_;
  smcd::result<std::size_t> outcome_ = std::size_t{0};
  waiting_op* next_ = nullptr;      // of the operations on that side
  waiting_op* next_due_ = nullptr;  // of those that are about to be resumed
};

}  // namespace dibsock::detail
