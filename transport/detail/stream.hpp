// SPDX-License-Identifier: Apache-2.0
#pragma once
// One kernel socket from open to close, its link, and the operations that wait
// for it: the loop "try; spin; arm and try again; wait for whatever comes
// first; repeat".
//
// Operations hold their stream, so it outlives the socket object if need be.
// Steps of a read, steps of a write, and one thread that calls close() or
// cancel() may run at the same time.

#include <devices/ticks.hpp>
#include <transport/detail/kernel_socket.hpp>
#include <transport/detail/link.hpp>
#include <transport/detail/turns.hpp>
#include <transport/detail/waiting_op.hpp>
#include <transport/detail/wake_service.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/query.hpp>

#include <sched.h>

#include <atomic>
#include <mutex>
#include <utility>

namespace dibsock::detail {

// What an operation does next. After `wait` it belongs to the stream.
enum class progress : std::uint8_t { finish, spin_on, wait };

class stream final : public sleeper {
 public:
  explicit stream(const boost::asio::any_io_executor& executor)
      : kernel(executor),
        turns_(turns_of(executor)),
        service_(boost::asio::use_service<wake_service>(
            boost::asio::query(executor, boost::asio::execution::context))) {}
  ~stream() {
    close();
    // It may be the context that ends, and destroys an operation that holds us.
    if (is_known()) service_.release(*this);
  }

  // For addresses, options, and to be connected; bytes go through the link.
  kernel_socket kernel;

  // The kernel socket is connected. Fails if it was closed meanwhile.
  [[nodiscard]] boost::system::error_code begin(std::shared_ptr<smcd::stack>, smcd::handshake_role,
                                                const dibs::inet_address& remote, bool may_meet);
  boost::system::error_code close() noexcept;
  // Ends all operations with operation_aborted.
  boost::system::error_code cancel();

  // For functions that do not wait: what try_it(link&) gives.
  template <class Try>
  [[nodiscard]] smcd::result<std::size_t> attempt(side, Try try_it);
  // For functions whose thread waits.
  template <class Try>
  [[nodiscard]] smcd::result<std::size_t> block(Try try_it);

  // The next step of an operation, on its executor.
  [[nodiscard]] progress step(waiting_op&);
  // Does nothing to an operation that is finished.
  void abort(side, waiting_op*);
  // The operation ends without having finished.
  void forget(waiting_op&) noexcept;
  // One that spins: would a step get further? Memory only, and no waiting.
  [[nodiscard]] bool is_due(waiting_op&) noexcept;
  // Its peer needs the CPU of this thread.
  [[nodiscard]] bool is_needing_cpu(waiting_op&) noexcept;

  [[nodiscard]] link& lanes() noexcept { return link_; }
  // Of its executor, if that is an io_context and nothing besides; else null.
  [[nodiscard]] turns* own_turns() const noexcept { return turns_; }

 private:
  // A TCP lane that woke so often for nothing is not watched any more.
  static constexpr std::uint8_t most_vain_wakes = 8;
  // Looks at memory in one step of a spin: about a microsecond.
  static constexpr int looks = 16;

  // The operations of one direction.
  struct waiting_side {
    std::mutex mutex;
    waiting_op* first = nullptr;
    std::uint64_t tickets = 0;
  };
  [[nodiscard]] waiting_side& at(side of) noexcept { return sides_[link::index(of)]; }

  void on_bell() override;
  void on_tick() override;
  void on_rest() override;
  void on_tcp(side, std::uint64_t ticket);
  void drop_waits() noexcept override;
  void wake(side);

  // The mutex of the side is held.
  [[nodiscard]] progress go_on(waiting_op&);
  void list(waiting_op&) noexcept;
  void drop(waiting_op&) noexcept;
  [[nodiscard]] bool begin_spin(waiting_op&) noexcept;
  [[nodiscard]] bool look_around(waiting_op&) noexcept;
  void end_spin(waiting_op&) noexcept;
  [[nodiscard]] bool try_once(waiting_op&) noexcept;
  [[nodiscard]] progress park(waiting_op&);
  void await_tcp(waiting_op&);
  void leave(waiting_op&) noexcept;
  // Puts what is parked in front of the list `due`.
  [[nodiscard]] waiting_op* take_parked(side, waiting_op* due) noexcept;
  void abort_all(side) noexcept;

  static void resume_all(waiting_op* due);  // no mutex is held

  turns* const turns_;
  wake_service& service_;
  link link_;
  bool is_closed_ = false;  // written under both mutexes
  std::mutex mode_mutex_;
  std::atomic<bool> is_non_blocking_{false};  // the kernel socket
  waiting_side sides_[2];
};

[[nodiscard]] constexpr side other(side of) noexcept {
  return of == side::reading ? side::writing : side::reading;
}

// ---- the life --------------------------------------------------------------

inline boost::system::error_code stream::begin(std::shared_ptr<smcd::stack> stack,
                                               smcd::handshake_role role,
                                               const dibs::inet_address& remote, bool may_meet) {
  const std::scoped_lock lock(at(side::reading).mutex, at(side::writing).mutex);
  if (is_closed_) return boost::asio::error::operation_aborted;
  link_.open(kernel.native_handle(), std::move(stack), role, remote, may_meet);
  return {};
}

inline boost::system::error_code stream::close() noexcept {
  boost::system::error_code failure;
  waiting_op* due = nullptr;
  {
    const std::scoped_lock lock(at(side::reading).mutex, at(side::writing).mutex);
    if (is_closed_) return {};
    is_closed_ = true;
    for (const side of : both_sides) {
      abort_all(of);
      due = take_parked(of, due);
    }
    link_.close();
    kernel.close(failure);
  }
  resume_all(due);
  return failure;
}

inline boost::system::error_code stream::cancel() {
  boost::system::error_code failure;
  kernel.cancel(failure);
  for (const side of : both_sides) {
    waiting_op* due = nullptr;
    {
      const std::lock_guard lock(at(of).mutex);
      abort_all(of);
      due = take_parked(of, nullptr);
    }
    resume_all(due);
  }
  return failure;
}

// ---- one call --------------------------------------------------------------

template <class Try>
smcd::result<std::size_t> stream::attempt(side of, Try try_it) {
  smcd::result<std::size_t> got = dibs::system_error(boost::asio::error::not_connected);
  bool has_moved = false;
  {
    const std::lock_guard lock(at(of).mutex);
    if (!link_.is_open()) return got;
    got = try_it(link_);
    has_moved = link_.has_moved();
  }
  if (has_moved) wake(other(of));
  return got;
}

template <class Try>
smcd::result<std::size_t> stream::block(Try try_it) {
  if (!link_.is_open()) return dibs::system_error(boost::asio::error::not_connected);
  const smcd::result<std::size_t> got = try_it(link_);
  if (link_.has_moved()) {
    for (const side of : both_sides) wake(of);
  }
  return got;
}

// ---- an operation ----------------------------------------------------------

inline progress stream::step(waiting_op& op) {
  const side of = op.side_;
  const std::shared_ptr<sleeper> keep = shared_from_this();
  progress next = progress::wait;
  bool has_moved = false;
  {
    const std::lock_guard lock(at(of).mutex);
    next = go_on(op);
    if (next == progress::finish) drop(op);
    has_moved = link_.has_moved();
  }
  // The handshake went on, and took off the kernel socket what the other side
  // may be waiting for.
  if (has_moved) wake(other(of));
  return next;
}

inline progress stream::go_on(waiting_op& op) {
  list(op);
  leave(op);
  bool may_spin = true;
  if (op.spin_began_ != 0) {
    if (!op.is_aborted_ && !is_closed_ && !look_around(op)) return progress::spin_on;
    end_spin(op);
    may_spin = false;
  }
  if (op.is_aborted_ || is_closed_) {
    op.outcome_ = dibs::system_error(boost::asio::error::operation_aborted);
    return progress::finish;
  }
  const bool is_new = std::exchange(op.is_fresh_, false);
  const bool is_tcp = std::exchange(op.is_woken_by_tcp_, false);
  const bool is_vain = is_new || (is_tcp && op.side_ == side::reading && !link_.take_readable());
  if (!is_vain && try_once(op)) return progress::finish;
  if (may_spin && begin_spin(op)) return progress::spin_on;
  return park(op);
}

inline bool stream::try_once(waiting_op& op) noexcept {
  op.outcome_ = op.attempt(link_);
  return op.outcome_ || !dibs::is_would_block(op.outcome_.error());
}

inline bool stream::begin_spin(waiting_op& op) noexcept {
  if (!link_.is_on_dmb(op.side_) || !service_.begin_spin(op.is_looked_after_)) return false;
  op.spin_budget_ = link_.spin(op.side_).next(longest_spin());
  if (op.spin_budget_ == 0) {
    service_.end_spin();
    return false;
  }
  op.spin_began_ = dibs::ticks() | 1;
  return true;
}

// True if the spin is over, for better or worse.
inline bool stream::look_around(waiting_op& op) noexcept {
  dibs::spin_budget& budget = link_.spin(op.side_);
  if (!link_.hint(op.side_) && link_.shares_cpu()) ::sched_yield();
  for (int i = 0; i < looks; ++i) {
    if (link_.hint(op.side_)) {
      budget.learn(longest_spin(), dibs::ticks() - op.spin_began_);
      return true;
    }
    dibs::relax();
  }
  if (dibs::ticks() - op.spin_began_ < op.spin_budget_) return false;
  budget.learn_vain(longest_spin());
  return true;
}

inline bool stream::is_due(waiting_op& op) noexcept {
  const std::unique_lock lock(at(op.side_).mutex, std::try_to_lock);
  return lock && (op.is_aborted_ || link_.hint(op.side_) ||
                  dibs::ticks() - op.spin_began_ >= op.spin_budget_);
}

inline bool stream::is_needing_cpu(waiting_op& op) noexcept {
  const std::unique_lock lock(at(op.side_).mutex, std::try_to_lock);
  return lock && !is_closed_ && link_.shares_cpu();
}

inline void stream::end_spin(waiting_op& op) noexcept {
  op.spin_began_ = 0;
  service_.end_spin();
}

inline progress stream::park(waiting_op& op) {
  op.is_entered_ =
      service_.join(*this, link_, kernel.get_executor(), op.is_looked_after_ ? turns_ : nullptr);
  op.is_joined_ = true;
  if (op.is_entered_ && try_once(op)) {
    leave(op);
    return progress::finish;
  }
  wait_terms wanted = link_.terms(op.side_, op.is_entered_);
  if (op.vain_wakes_ > most_vain_wakes) wanted = {false, true};
  if (wanted.wants_tick) {
    service_.start_ticking(*this);
    op.is_ticking_ = true;
  }
  op.ticket_ = ++at(op.side_).tickets;
  if (wanted.wants_tcp) await_tcp(op);
  return progress::wait;
}

inline void stream::await_tcp(waiting_op& op) {
  namespace asio = boost::asio;
  // Asio makes the socket non-blocking at the first wait. Both sides may wait
  // without a lock once it is done.
  if (!is_non_blocking_.load(std::memory_order_acquire)) {
    const std::lock_guard lock(mode_mutex_);
    boost::system::error_code ignored = kernel.hand_over();
    if (!kernel.asio().native_non_blocking()) kernel.asio().native_non_blocking(true, ignored);
    is_non_blocking_.store(true, std::memory_order_release);
  }
  op.has_tcp_wait_ = true;
  // Runs where the event comes to: on_tcp() only hands the operation over. If
  // there is no event loop for it, at once, and a tick helps out.
  kernel.asio().async_wait(
      op.side_ == side::reading ? asio::socket_base::wait_read : asio::socket_base::wait_write,
      asio::bind_cancellation_slot(
          op.tcp_wait_.slot(),
          asio::bind_executor(asio::system_executor(),
                              [keep = shared_from_this(), this, of = op.side_, ticket = op.ticket_](
                                  const boost::system::error_code&) { on_tcp(of, ticket); })));
}

inline void stream::leave(waiting_op& op) noexcept {
  if (!std::exchange(op.is_joined_, false)) return;
  op.ticket_ = 0;
  if (std::exchange(op.has_tcp_wait_, false)) {
    op.tcp_wait_.emit(boost::asio::cancellation_type::terminal);
  }
  if (std::exchange(op.is_ticking_, false)) service_.stop_ticking(*this);
  service_.leave(*this, link_, std::exchange(op.is_entered_, false));
}

inline void stream::list(waiting_op& op) noexcept {
  if (std::exchange(op.is_listed_, true)) return;
  op.next_ = std::exchange(at(op.side_).first, &op);
}

inline void stream::drop(waiting_op& op) noexcept {
  if (!std::exchange(op.is_listed_, false)) return;
  waiting_op** link = &at(op.side_).first;
  while (*link != &op) link = &(*link)->next_;
  *link = op.next_;
}

inline void stream::forget(waiting_op& op) noexcept {
  const std::lock_guard lock(at(op.side_).mutex);
  leave(op);
  if (op.spin_began_ != 0) end_spin(op);
  drop(op);
}

// ---- waking ----------------------------------------------------------------

inline waiting_op* stream::take_parked(side of, waiting_op* due) noexcept {
  for (waiting_op* op = at(of).first; op != nullptr; op = op->next_) {
    if (std::exchange(op->ticket_, 0) != 0) op->next_due_ = std::exchange(due, op);
  }
  return due;
}

inline void stream::abort_all(side of) noexcept {
  for (waiting_op* op = at(of).first; op != nullptr; op = op->next_) op->is_aborted_ = true;
}

inline void stream::resume_all(waiting_op* due) {
  while (due != nullptr) std::exchange(due, due->next_due_)->resume();
}

inline void stream::abort(side of, waiting_op* wanted) {
  bool is_due = false;
  {
    const std::lock_guard lock(at(of).mutex);
    for (waiting_op* op = at(of).first; op != nullptr; op = op->next_) {
      if (op != wanted) continue;
      op->is_aborted_ = true;
      is_due = std::exchange(op->ticket_, 0) != 0;
    }
  }
  if (is_due) wanted->resume();
}

inline void stream::wake(side of) {
  waiting_op* due = nullptr;
  {
    const std::lock_guard lock(at(of).mutex);
    due = take_parked(of, nullptr);
  }
  resume_all(due);
}

inline void stream::on_bell() {
  waiting_op* due = nullptr;
  {
    const std::lock_guard lock(at(side::reading).mutex);
    // The peer rings for both sides; a reader is most often not meant when
    // there is room again.
    if (is_closed_ || !link_.is_smcd() || link_.hint(side::reading)) {
      due = take_parked(side::reading, nullptr);
    }
  }
  resume_all(due);
  wake(side::writing);
}

inline void stream::on_tick() {
  for (const side of : both_sides) wake(of);
}

inline void stream::on_rest() {
  const std::lock_guard lock(at(side::reading).mutex);
  link_.rest();
}

inline void stream::on_tcp(side of, std::uint64_t ticket) {
  waiting_op* due = nullptr;
  {
    const std::lock_guard lock(at(of).mutex);
    for (waiting_op* op = at(of).first; op != nullptr; op = op->next_) {
      if (op->ticket_ != ticket) continue;
      op->ticket_ = 0;
      op->has_tcp_wait_ = false;
      op->is_woken_by_tcp_ = true;
      if (op->vain_wakes_ <= most_vain_wakes) ++op->vain_wakes_;
      due = op;
    }
  }
  if (due != nullptr) due->resume_here();
}

inline void stream::drop_waits() noexcept {
  waiting_op* due = nullptr;
  for (const side of : both_sides) {
    const std::lock_guard lock(at(of).mutex);
    due = take_parked(of, due);
  }
  while (due != nullptr) std::exchange(due, due->next_due_)->destroy();
}

}  // namespace dibsock::detail
