// SPDX-License-Identifier: Apache-2.0
#include <transport/detail/thread_sleep.hpp>

#include <devices/chaos.hpp>
#include <devices/event_queue.hpp>
#include <devices/ticks.hpp>

#include <poll.h>

#include <cerrno>

namespace dibsock::detail {
namespace {

constexpr timespec short_time{0, 1'000'000};
constexpr timespec unsure_time{0, 20'000'000};
constexpr timespec longest_time{dibs::longest_sleep_us / 1'000'000, 0};

// Used bit 0 only: a thread waits for one connection at a time.
struct thread_queue {
  std::shared_ptr<smcd::stack> stack;  // first, so that it goes last
  dibs::event_queue queue;

  dibs::event_queue* open(const std::shared_ptr<smcd::stack>& wanted) noexcept {
    if (stack != wanted) {
      // A forked child's first sleep: the queue there is the parent's.
      queue.abandon();
      stack = wanted;
    }
    if (!queue.is_open()) {
      if (auto opened = dibs::event_queue::open(stack->queues())) queue = std::move(*opened);
    }
    return queue.is_open() ? &queue : nullptr;
  }
};

thread_local thread_queue own;

}  // namespace

thread_sleep::thread_sleep(smcd::connection* connection,
                           const std::shared_ptr<smcd::stack>& stack) noexcept
    : connection_(connection) {
  if (connection_ == nullptr) return;
  dibs::event_queue* queue = own.open(stack);
  if (queue == nullptr) return;
  word_ = queue->word(0);
  is_entered_ = connection_->enter_waiter(word_);
  if (is_entered_) queue->arm();
}

thread_sleep::~thread_sleep() {
  if (!is_entered_) return;
  own.queue.disarm();
  connection_->leave_waiter(word_);
}

thread_sleep::woken thread_sleep::until(int fd, short events, bool is_short,
                                        bool is_unsure) noexcept {
  pollfd asked[2] = {{events != 0 ? fd : -1, events, 0},
                     {is_entered_ ? own.queue.bell() : -1, POLLIN, 0}};
  const timespec* timeout = is_short      ? &short_time
                            : is_unsure   ? &unsure_time
                            : is_entered_ ? &longest_time
                                          : nullptr;
  if (dibs::chaos::one_in(16)) return woken::by_bell;
  const int ready = ::ppoll(asked, 2, timeout, nullptr);
  if (ready < 0) return errno == EINTR ? woken::interrupted : woken::by_time;
  if (ready == 0) {
    if (connection_ != nullptr) connection_->rest(dibs::ticks());
    return woken::by_time;
  }
  if (asked[1].revents != 0) {
    own.queue.drain_bell();
    return woken::by_bell;
  }
  return woken::by_tcp;
}

}  // namespace dibsock::detail
