// SPDX-License-Identifier: Apache-2.0
#pragma once
// An asynchronous operation of a stream together with its handler: what it
// attempts, where it runs, and how it ends.

#include <transport/detail/attempt.hpp>
#include <transport/detail/stream.hpp>
#include <transport/detail/turn_op.hpp>
#include <transport/detail/waiting_op.hpp>

#include <boost/asio/append.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/associator.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/defer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>

#include <memory>
#include <utility>

namespace dibsock::detail {

// Completes an operation that its initiating function has finished already.
template <class Handler, class Executor>
void post_completion(Handler handler, const Executor& executor,
                     const smcd::result<std::size_t>& got) {
  const boost::system::error_code code = got ? boost::system::error_code() : got.error();
  if constexpr (std::is_invocable_v<Handler&&, boost::system::error_code, std::size_t>) {
    boost::asio::post(executor, boost::asio::append(std::move(handler), code, got ? *got : 0));
  } else {
    boost::asio::post(executor, boost::asio::append(std::move(handler), code));
  }
}

// Runs the next step of an operation, where its handler would be called. One
// that is dropped ends the operation silently.
template <class Operation>
class stepper {
 public:
  explicit stepper(Operation* op) noexcept : op_(op) {}
  stepper(stepper&& other) noexcept : op_(std::exchange(other.op_, nullptr)) {}
  stepper& operator=(stepper&&) = delete;
  ~stepper() {
    if (op_ != nullptr) op_->destroy();
  }
  void operator()() { std::exchange(op_, nullptr)->run(); }
  [[nodiscard]] const auto& handler() const noexcept { return op_->handler(); }

 private:
  Operation* op_;
};

// ---- the operation ---------------------------------------------------------

template <class Attempt, class Handler, class Executor>
class stream_op final : public waiting_op {
  using own_executor = boost::asio::associated_executor_t<Handler, Executor>;
  template <class Of>
  using work_of = std::decay_t<decltype(boost::asio::prefer(
      std::declval<const Of&>(), boost::asio::execution::outstanding_work.tracked))>;

 public:
  using handler_type = Handler;

  // The initiating function has tried, and would block.
  static void start(std::shared_ptr<stream> on, Attempt attempt, Handler handler,
                    const Executor& executor) {
    auto* op = allocate_for<stream_op>(handler);
    // Nothing below throws while the memory is nobody's.
    new (static_cast<void*>(op))
        stream_op(std::move(on), std::move(attempt), std::move(handler), executor);
    if (auto slot = boost::asio::get_associated_cancellation_slot(op->handler_);
        slot.is_connected()) {
      slot.template emplace<canceller>(op);
    }
    op->begin();
  }

  ~stream_op() = default;
  [[nodiscard]] const Handler& handler() const noexcept { return handler_; }

 private:
  friend class stepper<stream_op>;

  // No bytes have moved while an operation waits, so every type will do.
  class canceller {
   public:
    explicit canceller(stream_op* op) noexcept : op_(op) {}
    void operator()(boost::asio::cancellation_type type) {
      if (type == boost::asio::cancellation_type::none) return;
      const std::shared_ptr<stream> on = op_->stream_;
      on->abort(Attempt::of, op_);
    }

   private:
    stream_op* op_;
  };

  stream_op(std::shared_ptr<stream> on, Attempt attempt, Handler handler, const Executor& executor)
      : waiting_op(Attempt::of, false),
        stream_(std::move(on)),
        attempt_(std::move(attempt)),
        executor_(executor),
        own_work_(boost::asio::prefer(executor, boost::asio::execution::outstanding_work.tracked)),
        work_(boost::asio::prefer(boost::asio::get_associated_executor(handler, executor),
                                  boost::asio::execution::outstanding_work.tracked)),
        handler_(std::move(handler)) {}

  smcd::result<std::size_t> attempt(link& at) noexcept override { return attempt_(at); }
  void resume() override { boost::asio::post(executor_, stepper(this)); }
  void resume_here() override { boost::asio::dispatch(executor_, stepper(this)); }

  void destroy() noexcept override {
    stream_->forget(*this);
    free(this);
  }

  static void free(stream_op* op) noexcept {
    const Handler handler(std::move(op->handler_));
    free_for(handler, op);
  }

  void begin() {
    switch (stream_->step(*this)) {
      case progress::finish: is_finished_ = true; return resume();
      case progress::spin_on: return boost::asio::defer(executor_, stepper(this));
      case progress::wait: return;
    }
  }

  void run() {
    if (is_finished_) return finish();
    switch (stream_->step(*this)) {
      case progress::finish: return finish();
      case progress::spin_on: return boost::asio::defer(executor_, stepper(this));
      case progress::wait: return;
    }
  }

  void finish() {
    if (auto slot = boost::asio::get_associated_cancellation_slot(handler_); slot.is_connected()) {
      slot.clear();
    }
    const smcd::result<std::size_t> got = outcome();
    const work_of<own_executor> keep(std::move(work_));
    Handler handler(std::move(handler_));
    free_for(handler, this);
    complete(handler, got);
  }

  std::shared_ptr<stream> stream_;
  Attempt attempt_;
  Executor executor_;           // of the socket: where steps begin
  work_of<Executor> own_work_;  // there may be a next one
  work_of<own_executor> work_;  // of the handler: where they run
  Handler handler_;
  bool is_finished_ = false;
};

}  // namespace dibsock::detail

// A step has the executor and the allocator of its handler.
template <template <class, class> class Associator, class Operation, class Default>
struct boost::asio::associator<Associator, dibsock::detail::stepper<Operation>, Default>
    : Associator<typename Operation::handler_type, Default> {
  using base = Associator<typename Operation::handler_type, Default>;
  static auto get(const dibsock::detail::stepper<Operation>& step) noexcept {
    return base::get(step.handler());
  }
  static auto get(const dibsock::detail::stepper<Operation>& step,
                  const Default& otherwise) noexcept {
    return base::get(step.handler(), otherwise);
  }
};

namespace dibsock::detail {

// Where an operation runs that needs nothing but its io_context; else null.
template <class Handler, class Executor>
[[nodiscard]] turns* turns_for(stream& on, const Handler& handler, const Executor& executor) {
  turns* const in = on.own_turns();
  if (in == nullptr || plain_context(executor) != &in->context()) return nullptr;
  const auto own = boost::asio::get_associated_executor(handler, executor);
  return plain_context(own) == &in->context() ? in : nullptr;
}

// The function behind async_read_some and the like. `on` is null for a socket
// that is not open.
template <class Attempt, class Handler, class Executor>
void start_operation(const std::shared_ptr<stream>& on, Attempt attempt, Handler handler,
                     const Executor& executor) {
  if (on == nullptr) {
    const smcd::result<std::size_t> none = dibs::system_error(boost::asio::error::bad_descriptor);
    return post_completion(std::move(handler), executor, none);
  }
  turns* const in = turns_for(*on, handler, executor);
  smcd::result<std::size_t> got = std::size_t{0};
  if (!attempt.is_idle()) {
    got = on->attempt(Attempt::of, [&](link& at) noexcept { return attempt.first(at); });
  }
  if (got || !dibs::is_would_block(got.error())) {
    in != nullptr ? told_turn<Handler>::start(*in, std::move(handler), got)
                  : post_completion(std::move(handler), executor, got);
  } else if (in != nullptr) {
    turn_op<Attempt, Handler>::start(*in, on, std::move(attempt), std::move(handler));
  } else {
    stream_op<Attempt, Handler, Executor>::start(on, std::move(attempt), std::move(handler),
                                                 executor);
  }
}

}  // namespace dibsock::detail
