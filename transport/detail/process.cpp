// SPDX-License-Identifier: Apache-2.0
#include <transport/detail/process.hpp>

#include <devices/lock.hpp>

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>

namespace dibsock::detail {
namespace {

// A child must not take its parent off the fabric: it only forgets.
struct leave_fabric {
  process_number owner;
  void operator()(smcd::stack* what) const noexcept {
    if (owner == this_process()) delete what;
  }
};

std::shared_ptr<smcd::stack> enter_fabric() noexcept {
  const smcd::config& wanted = settings();
  if (wanted.complaint[0] != '\0') log("%s", wanted.complaint.data());
  if (!wanted.is_enabled) return nullptr;
  std::unique_ptr<smcd::stack> made(new (std::nothrow) smcd::stack(wanted));
  if (made == nullptr) return nullptr;
  if (const dibs::error_code failure = made->open()) {
    log("no fabric, everything stays on TCP: %s", failure.message().c_str());
    return nullptr;
  }
  return {made.release(), leave_fabric{this_process()}};
}

}  // namespace

const smcd::config& settings() noexcept {
  static const smcd::config instance =
      smcd::read_config([](const char* name) noexcept -> const char* { return std::getenv(name); });
  return instance;
}

std::shared_ptr<smcd::stack> this_stack() noexcept {
  static std::mutex mutex;
  static std::shared_ptr<smcd::stack> stack;
  static process_number owner = 0;
  const std::lock_guard lock(mutex);
  if (owner != this_process()) {
    owner = this_process();
    stack = enter_fabric();
  }
  return stack;
}

process_number this_process() noexcept {
  static std::atomic<process_number> known{0};
  static std::once_flag once;
  std::call_once(once, [] {
    known = ::getpid();
    // Locks in shared memory know threads by number, and a child's are new.
    ::pthread_atfork(nullptr, nullptr, [] {
      known = ::getpid();
      dibs::reset_thread_number();
    });
  });
  return known.load(std::memory_order_relaxed);
}

void log(const char* format, ...) noexcept {
  if (!settings().logs) return;
  std::array<char, 256> line;
  int used = std::snprintf(line.data(), line.size(), "dibsock[%d]: ", this_process());
  std::va_list arguments;
  va_start(arguments, format);
  used += std::vsnprintf(line.data() + used, line.size() - static_cast<std::size_t>(used) - 1,
                         format, arguments);
  va_end(arguments);
  used = std::min(used, static_cast<int>(line.size()) - 2);
  line[static_cast<std::size_t>(used++)] = '\n';
  static_cast<void>(!::write(2, line.data(), static_cast<std::size_t>(used)));
}

}  // namespace dibsock::detail
