// SPDX-License-Identifier: Apache-2.0
#include <devices/chaos.hpp>

#include <devices/lock.hpp>

#if defined(DIBSOCK_CHAOS)

#include <sched.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>

namespace dibs::chaos {
namespace {

constinit std::atomic<std::uint64_t> counter{0};

std::uint64_t next() noexcept {
  std::uint64_t word = detail::seed.load(std::memory_order_relaxed) +
                       counter.fetch_add(1, std::memory_order_relaxed) * 0x9E3779B97F4A7C15;
  word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9;
  word = (word ^ word >> 27) * 0x94D049BB133111EB;
  return word ^ word >> 31;
}

}  // namespace

namespace detail {

constinit std::atomic<std::uint64_t> seed{unasked};

bool ask() noexcept {
  const char* given = std::getenv("DIBSOCK_CHAOS");
  const std::uint64_t number = given == nullptr ? 0 : std::strtoull(given, nullptr, 10);
  seed.store(number == 0 ? off : number << 32 | 2, std::memory_order_relaxed);
  return number != 0;
}

void stall() noexcept {
  const std::uint32_t drawn = below(512);
  if (drawn >= 16) return;
  const int saved = errno;
  if (drawn == 0) {
    const cancel_shield not_cancelled;
    const timespec time{0, static_cast<long>(below(300'000))};
    ::nanosleep(&time, nullptr);
  } else {
    ::sched_yield();
  }
  errno = saved;
}

}  // namespace detail

std::uint32_t below(std::uint32_t n) noexcept {
  return is_on() ? static_cast<std::uint32_t>((next() >> 32) * n >> 32) : 0;
}

}  // namespace dibs::chaos

#endif
