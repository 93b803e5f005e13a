// SPDX-License-Identifier: Apache-2.0
#include <tools/perf/stop.hpp>

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>

namespace tools::perf {
namespace {

constexpr int max_places = 1024;
std::atomic<bool> stopping{false};
std::array<std::atomic<int>, max_places> places{};  // fd + 1; 0 is an empty place
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

// Some senders signal a process and then its group: that is one Ctrl-C.
constexpr std::int64_t one_ctrl_c_ns = 300'000'000;
std::atomic<std::int64_t> first_at{0};
static_assert(std::atomic<std::int64_t>::is_always_lock_free);

std::int64_t now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

void stop(int number) noexcept {
  const int saved = errno;
  std::int64_t first = 0;
  const std::int64_t now = now_ns();
  if (!first_at.compare_exchange_strong(first, now) && now - first > one_ctrl_c_ns) {
    std::signal(number, SIG_DFL);
    ::raise(number);
    return;
  }
  stopping.store(true);
  for (const std::atomic<int>& place : places) {
    if (const int known = place.load(); known != 0) ::shutdown(known - 1, SHUT_RDWR);
  }
  errno = saved;
}

}  // namespace

void stop_on_signals() noexcept {
  struct sigaction action {};
  action.sa_handler = stop;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

bool is_stopping() noexcept { return stopping.load(); }

stoppable::stoppable(int fd) noexcept : place_(0) {
  for (; place_ < max_places; ++place_) {
    int empty = 0;
    if (places[static_cast<std::size_t>(place_)].compare_exchange_strong(empty, fd + 1)) break;
  }
  // The signal may have come before it could find this place.
  if (is_stopping()) ::shutdown(fd, SHUT_RDWR);
}

stoppable::~stoppable() {
  if (place_ < max_places) places[static_cast<std::size_t>(place_)].store(0);
}

}  // namespace tools::perf
