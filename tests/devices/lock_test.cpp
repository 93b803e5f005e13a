// SPDX-License-Identifier: Apache-2.0
#include <devices/lock.hpp>

#include <support/child_process.hpp>

#include <doctest/doctest.h>

#include <sys/mman.h>

#include <atomic>
#include <csignal>
#include <new>
#include <thread>
#include <vector>

using dibs::lock_guard;
using dibs::shared_lock;

namespace {

// Memory that a forked child shares.
template <class T>
struct shared {
  shared()
      : at(static_cast<T*>(::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    REQUIRE(at != MAP_FAILED);
  }
  shared(const shared&) = delete;
  shared& operator=(const shared&) = delete;
  ~shared() { ::munmap(at, sizeof(T)); }
  T* operator->() const { return at; }
  T* at;
};

struct counted {
  shared_lock lock;
  std::uint64_t count;
  std::uint64_t check;
};

shared_lock* handler_lock = nullptr;
volatile std::sig_atomic_t handler_ran = 0;
volatile std::sig_atomic_t handler_was_nested = 0;

void on_alarm(int) {
  const lock_guard guard(*handler_lock);
  handler_ran = 1;
  handler_was_nested = guard.is_nested() ? 1 : 0;
}

struct handled {
  explicit handled(shared_lock& lock) {
    handler_lock = &lock;
    handler_ran = 0;
    handler_was_nested = 0;
    struct sigaction action {};
    action.sa_handler = on_alarm;
    ::sigaction(SIGUSR1, &action, &before);
  }
  ~handled() { ::sigaction(SIGUSR1, &before, nullptr); }
  struct sigaction before {};
};

}  // namespace

TEST_CASE("lock: zeroed memory is an unlocked lock") {
  alignas(shared_lock) unsigned char memory[sizeof(shared_lock)]{};
  auto* lock = std::launder(reinterpret_cast<shared_lock*>(memory));
  CHECK(lock->acquire() == shared_lock::hold::outer);
  lock->release(shared_lock::hold::outer);
  CHECK(lock->acquire() == shared_lock::hold::outer);
  lock->release(shared_lock::hold::outer);
}

TEST_CASE("lock: who is alone holds it as any other") {
  shared_lock lock;
  const handled here(lock);
  {
    const lock_guard guard(lock, true);
    CHECK(!guard.is_nested());
    CHECK(lock_guard(lock, true).is_nested());
    ::raise(SIGUSR1);
    CHECK(handler_was_nested == 1);
  }
  ::raise(SIGUSR1);
  CHECK(handler_was_nested == 0);
  // And one who was not when it began does not overlook those who came since.
  shared<shared_lock> common;
  CHECK(common->acquire(true) == shared_lock::hold::outer);
  support::child_process other([&] {
    dibs::reset_thread_number();
    const lock_guard guard(*common.at);
    return 0;
  });
  const auto* word = reinterpret_cast<const std::atomic<std::uint32_t>*>(common.at);
  while ((word->load() & 0x80000000) == 0) std::this_thread::yield();
  common->release(shared_lock::hold::outer, true);
  CHECK(other.wait() == 0);
}

TEST_CASE("lock: threads exclude each other") {
  counted state{};
  constexpr int rounds = 20000;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < rounds; ++round) {
        const lock_guard guard(state.lock);
        ++state.count;
        state.check += state.count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(state.count == 4 * rounds);
  CHECK(state.check == std::uint64_t{4 * rounds} * (4 * rounds + 1) / 2);
}

TEST_CASE("lock: a holder that takes its time is waited for") {
  counted state{};
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> has{false};
    std::thread holder([&] {
      const lock_guard guard(state.lock);
      has = true;
      const timespec a_while{0, 3'000'000};
      ::nanosleep(&a_while, nullptr);
      state.count = 7;
    });
    while (!has) ::sched_yield();
    {
      const lock_guard guard(state.lock);
      CHECK(state.count == 7);
      state.count = 0;
    }
    holder.join();
  }
}

TEST_CASE("lock: a signal handler that meets its own thread's lock is told so") {
  shared_lock lock{};
  const handled handler(lock);
  ::raise(SIGUSR1);
  CHECK(handler_ran == 1);
  CHECK(handler_was_nested == 0);
  handler_ran = 0;
  {
    const lock_guard guard(lock);
    CHECK(!guard.is_nested());
    ::raise(SIGUSR1);
    CHECK(handler_ran == 1);
    CHECK(handler_was_nested == 1);
  }
  ::raise(SIGUSR1);
  CHECK(handler_was_nested == 0);
}

TEST_CASE("lock: signals wait while a lock that connections share is held") {
  shared_lock lock{};
  const handled handler(lock);
  {
    const dibs::shielded_guard guard(lock);
    ::raise(SIGUSR1);
    CHECK(handler_ran == 0);
  }
  CHECK(handler_ran == 1);
  CHECK(handler_was_nested == 0);
}

TEST_CASE("lock: errno survives waiting") {
  shared_lock lock{};
  std::atomic<bool> has{false};
  std::thread holder([&] {
    const lock_guard guard(lock);
    has = true;
    const timespec a_while{0, 30'000'000};
    ::nanosleep(&a_while, nullptr);
  });
  while (!has) ::sched_yield();
  errno = ERANGE;
  {
    const lock_guard guard(lock);
    CHECK(errno == ERANGE);
  }
  CHECK(errno == ERANGE);
  holder.join();
}

TEST_CASE("lock: processes exclude each other") {
  const shared<counted> state;
  constexpr int rounds = 20000;
  const auto body = [&] {
    for (int round = 0; round < rounds; ++round) {
      const lock_guard guard(state->lock);
      const std::uint64_t seen = state->count;
      if (round % 100 == 0) ::sched_yield();
      state->count = seen + 1;
    }
    return 0;
  };
  // Each forked child has a thread number of its own.
  const auto child_body = [&] {
    dibs::reset_thread_number();
    return body();
  };
  support::child_process one(child_body);
  support::child_process two(child_body);
  body();
  CHECK(one.wait() == 0);
  CHECK(two.wait() == 0);
  CHECK(state->count == 3 * rounds);
}

TEST_CASE("lock: what a killed process held is taken over") {
  const shared<counted> state;
  support::meeting_point meet;
  support::child_process child([&] {
    dibs::reset_thread_number();
    const lock_guard guard(state->lock);
    meet.tell_parent();
    ::pause();
    return 0;
  });
  meet.await_child();
  child.kill();
  const lock_guard guard(state->lock);
  CHECK(!guard.is_nested());
}

TEST_CASE("lock: sleepers behind a killed holder all get their turn") {
  const shared<counted> state;
  support::meeting_point meet;
  support::child_process child([&] {
    dibs::reset_thread_number();
    const lock_guard guard(state->lock);
    meet.tell_parent();
    ::pause();
    return 0;
  });
  meet.await_child();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const lock_guard guard(state->lock);
      ++state->count;
    });
  }
  child.kill();
  for (std::thread& thread : threads) thread.join();
  CHECK(state->count == 4);
}

TEST_CASE("lock: a killed process leaves the lock to others wherever it was" *
          doctest::test_suite("long")) {
  const shared<counted> state;
  for (int round = 0; round < 100; ++round) {
    support::meeting_point meet;
    support::child_process child([&] {
      dibs::reset_thread_number();
      meet.tell_parent();
      for (;;) {
        const lock_guard guard(state->lock);
        ++state->check;
      }
      return 0;
    });
    meet.await_child();
    for (int i = 0; i < 50 + round; ++i) {
      const lock_guard guard(state->lock);
      ++state->count;
    }
    child.kill();
    const lock_guard guard(state->lock);
    ++state->count;
  }
  CHECK(state->count == 50 * 100 + 99 * 100 / 2 + 100);
}
