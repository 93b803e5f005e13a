// SPDX-License-Identifier: Apache-2.0
#pragma once
// Operations whose steps and handler need no executor but their io_context.
// They run in its turns, without a queue entry of their own.

#include <transport/detail/attempt.hpp>
#include <transport/detail/stream.hpp>
#include <transport/detail/turns.hpp>
#include <transport/detail/waiting_op.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <utility>

namespace dibsock::detail {

// One that its initiating function has finished: only its handler is left.
template <class Handler>
class told_turn final : public turn {
 public:
  static void start(turns& in, Handler handler, const smcd::result<std::size_t>& got) {
    auto* made = allocate_for<told_turn>(handler);
    in.add(*new (static_cast<void*>(made)) told_turn(std::move(handler), got));
  }
  ~told_turn() = default;

 private:
  told_turn(Handler handler, const smcd::result<std::size_t>& got)
      : handler_(std::move(handler)), got_(got) {}

  void take_turn() override {
    const smcd::result<std::size_t> got = got_;
    Handler handler(std::move(handler_));
    free_for(handler, this);
    complete(handler, got);
  }
  void drop_turn() noexcept override {
    const Handler handler(std::move(handler_));
    free_for(handler, this);
  }

  Handler handler_;
  smcd::result<std::size_t> got_;
};

template <class Attempt, class Handler>
class turn_op final : public waiting_op, public turn {
 public:
  // The initiating function has tried, and would block.
  static void start(turns& in, std::shared_ptr<stream> on, Attempt attempt, Handler handler) {
    auto* op = allocate_for<turn_op>(handler);
    new (static_cast<void*>(op)) turn_op(in, std::move(on), std::move(attempt), std::move(handler));
    if (auto slot = boost::asio::get_associated_cancellation_slot(op->handler_);
        slot.is_connected()) {
      slot.template emplace<canceller>(op);
    }
    op->begin();
  }
  ~turn_op() = default;

 private:
  // No bytes have moved while an operation waits, so every type will do.
  class canceller {
   public:
    explicit canceller(turn_op* op) noexcept : op_(op) {}
    void operator()(boost::asio::cancellation_type type) {
      if (type == boost::asio::cancellation_type::none) return;
      const std::shared_ptr<stream> on = op_->stream_;
      on->abort(Attempt::of, op_);
    }

   private:
    turn_op* op_;
  };

  turn_op(turns& in, std::shared_ptr<stream> on, Attempt attempt, Handler handler)
      : waiting_op(Attempt::of, true),
        turns_(in),
        work_(in.context().get_executor()),
        stream_(std::move(on)),
        attempt_(std::move(attempt)),
        handler_(std::move(handler)) {}

  smcd::result<std::size_t> attempt(link& at) noexcept override { return attempt_(at); }
  void resume() override { turns_.add(*this); }
  void resume_here() override { turns_.dispatch(*this); }
  void destroy() noexcept override {
    stream_->forget(*this);
    const Handler handler(std::move(handler_));
    free_for(handler, this);
  }

  void take_turn() override {
    if (is_finished_) return finish();
    switch (stream_->step(*this)) {
      case progress::finish: return finish();
      case progress::spin_on: return turns_.spin(*this);
      case progress::wait: return;
    }
  }
  bool is_due() noexcept override { return stream_->is_due(*this); }
  bool shares_cpu() noexcept override { return stream_->is_needing_cpu(*this); }
  void drop_turn() noexcept override { destroy(); }

  void begin() {
    switch (stream_->step(*this)) {
      case progress::finish: is_finished_ = true; return turns_.add(*this);
      case progress::spin_on: return turns_.spin(*this);
      case progress::wait: return;
    }
  }

  void finish() {
    if (auto slot = boost::asio::get_associated_cancellation_slot(handler_); slot.is_connected()) {
      slot.clear();
    }
    const smcd::result<std::size_t> got = outcome();
    Handler handler(std::move(handler_));
    free_for(handler, this);
    complete(handler, got);
  }

  turns& turns_;
  // A thread that cancels takes it out of all waits before it has its turn.
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::shared_ptr<stream> stream_;
  Attempt attempt_;
  Handler handler_;
  bool is_finished_ = false;
};

}  // namespace dibsock::detail
