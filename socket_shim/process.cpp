// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/process.hpp>

#include <devices/event_queue.hpp>
#include <devices/ticks.hpp>
#include <socket_shim/epoll.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace shim {

namespace {

// A process that is never quiet lets so many connections rest at a time, all of
// them in twice the time.
constexpr unsigned few_rests = 16;
constexpr std::uint64_t busy_time = 2 * dibs::rest_time;

}  // namespace

constinit process self;

// ---- the stack -------------------------------------------------------------

const smcd::config& process::settings() noexcept {
  if (!has_settings_.load(std::memory_order_acquire)) {
    settings_ = smcd::read_config(
        [](const char* name) noexcept -> const char* { return std::getenv(name); });
    has_settings_.store(true, std::memory_order_release);
  }
  return settings_;
}

smcd::stack* process::stack() noexcept {
  if (!is_decided_.load(std::memory_order_acquire)) [[unlikely]] {
    // A connection of another thread must not stay on TCP because it came in
    // the middle of this.
    const int saved = errno;
    const dibs::signal_shield quiet;
    const dibs::lock_guard guard(opening_);
    if (!guard.is_nested() && !is_decided_.load(std::memory_order_relaxed)) open_stack();
    errno = saved;
  }
  return stack_.load(std::memory_order_acquire);
}

void process::open_stack() noexcept {
  const dibs::cancel_shield not_cancelled;
  pid_.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_release);
  static std::atomic<bool> is_registered{false};
  if (!is_registered.exchange(true)) {
    ::pthread_atfork([] { self.before_fork(); }, [] { self.after_fork_in_parent(); },
                     [] { self.after_fork_in_child(); });
    ::at_quick_exit([] { self.leave(); });
  }
  const smcd::config& wanted = settings();
  if (wanted.complaint[0] != '\0') log("%s", wanted.complaint.data());
  void* memory = wanted.is_enabled ? ::mmap(nullptr, sizeof(smcd::stack), PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                   : MAP_FAILED;
  if (memory == MAP_FAILED) return is_decided_.store(true, std::memory_order_release);
  auto* made = new (memory) smcd::stack(wanted);
  if (const dibs::error_code failure = made->open()) {
    char buffer[128];
    log("no fabric, everything stays on TCP: %s", failure.message(buffer, sizeof buffer));
    made->~stack();
    ::munmap(memory, sizeof(smcd::stack));
    return is_decided_.store(true, std::memory_order_release);
  }
  stack_.store(made, std::memory_order_release);
  is_decided_.store(true, std::memory_order_release);
}

bool process::is_self() noexcept {
  const std::uint32_t known = pid_.load(std::memory_order_relaxed);
  return known == 0 || known == static_cast<std::uint32_t>(::getpid());
}

namespace {

// Bytes are unread in our ring: TCP sends RST then, and so does the kernel.
void reset_on_close(int fd) noexcept {
  const linger at_once{1, 0};
  static_cast<void>(real.setsockopt(fd, SOL_SOCKET, SO_LINGER, static_cast<const void*>(&at_once),
                                    socklen_t{sizeof at_once}));
}

}  // namespace

// ---- descriptors -----------------------------------------------------------

endpoint* process::make(endpoint::kind_of kind) noexcept {
  endpoint* made = endpoints_.take();
  if (made == nullptr) return nullptr;
  if (made->kind == endpoint::kind_of::free && made->next_live == nullptr) {
    endpoint* first = live_.load(std::memory_order_relaxed);
    do {
      made->next_live = first == nullptr ? made : first;  // the last one points to itself
    } while (!live_.compare_exchange_weak(first, made, std::memory_order_release));
  }
  made->descriptors.store(0, std::memory_order_relaxed);
  // Only the flags: a late call may be about to find that it is not meant.
  made->pins.fetch_and(~(endpoint::is_closing | endpoint::is_finished), std::memory_order_acq_rel);
  made->is_orphan.store(false, std::memory_order_relaxed);
  made->modes.store(endpoint::unknown, std::memory_order_relaxed);
  made->was_shared.store(false, std::memory_order_relaxed);
  made->receive_timeout_us.store(endpoint::not_asked, std::memory_order_relaxed);
  made->low_mark.store(1, std::memory_order_relaxed);
  made->send_timeout_us.store(endpoint::not_asked, std::memory_order_relaxed);
  made->verified.store(0, std::memory_order_relaxed);
  made->members.store(nullptr, std::memory_order_relaxed);
  made->synced.store(0, std::memory_order_relaxed);
  made->listener.store(nullptr, std::memory_order_relaxed);
  made->set = nullptr;
  made->kind = kind;
  return made;
}

void process::put(int fd, endpoint* what) noexcept {
  what->descriptors.fetch_add(1, std::memory_order_relaxed);
  if (table_.find(fd) != nullptr) drop_stale(fd);
  // No memory for the table gives the endpoint back: then forget it.
  if (table_.exchange(fd, what) == what) close_endpoint(*what, fd);
}

void process::drop(int fd) noexcept {
  forget_new(fd);
  endpoint* known = table_.find(fd);
  if (known == nullptr) return;
  // A child of vfork that closes its copy of a young connection keeps its
  // parent's on TCP, which is worth the system call saved here.
  const bool is_ours = (known->kind == endpoint::kind_of::stream && known->link.is_young() &&
                        known->members.load(std::memory_order_relaxed) == nullptr) ||
                       is_self();
  if (!is_ours) return;
  known = table_.exchange(fd, nullptr);
  if (known == nullptr) return;
  forget_descriptor(*known, fd);
  if (known->descriptors.fetch_sub(1, std::memory_order_acq_rel) == 1) close_endpoint(*known, fd);
}

void process::drop_stale(int fd) noexcept {
  if (!is_self()) return;
  endpoint* stale = table_.exchange(fd, nullptr);
  if (stale != nullptr && stale->descriptors.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    close_endpoint(*stale, -1);
  }
}

void process::discard(endpoint* unused) noexcept {
  unused->kind = endpoint::kind_of::free;
  endpoints_.give_back(unused);
}

void process::close_endpoint(endpoint& known, int fd) noexcept {
  if (known.kind == endpoint::kind_of::stream) leave_sets(known);
  known.pins.fetch_add(1, std::memory_order_seq_cst);
  constexpr std::uint32_t flags = endpoint::is_closing | endpoint::is_finished;
  const std::uint32_t pins = known.pins.fetch_or(endpoint::is_closing, std::memory_order_seq_cst);
  // A thread that sleeps in a call on it wakes up and finds fd closed.
  if ((pins & ~flags) > 1 && known.link.is_open()) known.link.wake_waiters();
  if (known.pins.fetch_sub(1, std::memory_order_acq_rel) == (endpoint::is_closing | 1)) {
    finish_last(known, fd);
  }
}

void process::finish_last(endpoint& known, int fd) noexcept {
  std::uint32_t nobody = endpoint::is_closing;
  if (known.pins.compare_exchange_strong(nobody, endpoint::is_closing | endpoint::is_finished,
                                         std::memory_order_acq_rel)) {
    finish(known, fd);
  }
}

void process::finish(endpoint& known, int fd) noexcept {
  const dibs::cancel_shield not_cancelled;
  const int saved = errno;
  switch (known.kind) {
    case endpoint::kind_of::stream: {
      tcp_socket tcp(fd);
      if (known.link.is_open() && known.link.close(tcp) == smcd::connection::close_way::reset) {
        reset_on_close(fd);
      }
      break;
    }
    case endpoint::kind_of::listener:
      if (known.listener != nullptr && known.owner_pid == pid_.load(std::memory_order_relaxed) &&
          stack() != nullptr) {
        stack()->meeting().withdraw_listener(known.listener);
      }
      break;
    case endpoint::kind_of::epoll: close_set(known.set); break;
    case endpoint::kind_of::in_kernel_set:
    case endpoint::kind_of::free: break;
  }
  known.kind = endpoint::kind_of::free;
  endpoints_.give_back(&known);
  errno = saved;
}

bool process::share(int from, int to) noexcept {
  endpoint* known = table_.find(from);
  if (known == nullptr) return true;
  if (!is_self()) return false;
  put(to, known);
  return true;
}

void process::drop_range(unsigned first, unsigned last) noexcept {
  if (!is_self()) return;
  for (int fd = table_.next(first); fd >= 0 && static_cast<unsigned>(fd) <= last;
       fd = table_.next(static_cast<unsigned>(fd) + 1)) {
    drop(fd);
  }
}

// ---- rest ------------------------------------------------------------------

void process::rest(bool is_quiet) noexcept {
  const std::uint64_t now = dibs::ticks();
  std::uint64_t before = rested_at_.load(std::memory_order_relaxed);
  const bool is_due = dibs::has_passed(before, is_quiet ? dibs::rest_time : busy_time, now);
  if (!is_due && (is_quiet || next_rest_.load(std::memory_order_relaxed) == no_rest)) [[likely]]
    return;
  if (live_.load(std::memory_order_acquire) == nullptr || !is_self()) return;
  // Whoever takes the number goes on from there.
  unsigned next = next_rest_.exchange(no_rest, std::memory_order_relaxed);
  if (is_due) next = rested_at_.compare_exchange_strong(before, now) ? 0 : no_rest;
  if (next == no_rest) return;
  const dibs::cancel_shield not_cancelled;
  const int saved = errno;
  int fd = table_.next(next);
  for (unsigned count = 0; fd >= 0 && (is_quiet || count < few_rests);
       fd = table_.next(static_cast<unsigned>(fd) + 1)) {
    const endpoint* known = table_.find(fd);
    if (known == nullptr || known->kind != endpoint::kind_of::stream ||
        !known->link.is_established()) {
      continue;
    }
    ++count;
    if (const pinned held = find_live(fd)) held->link.rest(now);
  }
  if (fd >= 0) next_rest_.store(static_cast<unsigned>(fd), std::memory_order_relaxed);
  errno = saved;
}

// ---- fork ------------------------------------------------------------------

void process::before_fork() noexcept {
  // A child of fork that has no stack yet holds connections, too.
  if (live_.load(std::memory_order_acquire) == nullptr) return;
  settle_sets();
  // What parent and child share must be known to both.
  for (int fd = table_.next(0); fd >= 0; fd = table_.next(static_cast<unsigned>(fd) + 1)) {
    if (const pinned known = find_live(fd); known && known->link.is_young()) {
      tcp_socket tcp(fd);
      known->link.grow_up(tcp);
    }
  }
  for_each_stream([](endpoint& at) noexcept {
    at.was_shared.store(true, std::memory_order_relaxed);
    at.link.share();
  });
}

// The kernel's sets are to be what the program made of them.
void process::settle_sets() noexcept {
  for (int fd = table_.next(0); fd >= 0; fd = table_.next(static_cast<unsigned>(fd) + 1)) {
    endpoint* at = table_.find(fd);
    if (at == nullptr || at->kind != endpoint::kind_of::epoll) continue;
    if (epoll_set* set = at->set.load(std::memory_order_acquire)) set->settle_parked();
  }
}

void process::after_fork_in_parent() noexcept {
  has_forked_.store(true, std::memory_order_relaxed);
}

void process::after_fork_in_child() noexcept {
  dibs::reset_thread_number();
  pid_.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_release);
  reset_waiting();
  new (&opening_) dibs::shared_lock;  // its holder may be a thread that is not here
  new (&first_use_) dibs::shared_lock;
  if (stack_.load(std::memory_order_acquire) == nullptr &&
      live_.load(std::memory_order_acquire) == nullptr) {
    return;
  }
  // The parent's stack stays where it is, for inherited connections. New ones,
  // and those that did not switch yet, belong to a stack of our own.
  for_each_stream([](endpoint& at) noexcept {
    // Those of threads that are not here.
    at.pins.fetch_and(endpoint::is_closing | endpoint::is_finished, std::memory_order_relaxed);
    at.is_orphan.store(!at.link.is_established(), std::memory_order_relaxed);
  });
  stack_.store(nullptr, std::memory_order_release);
  is_decided_.store(false, std::memory_order_release);
  has_forked_.store(false, std::memory_order_relaxed);
  has_left_.store(false, std::memory_order_relaxed);
}

void process::adopt_orphan(endpoint& known) noexcept {
  known.is_orphan.store(false, std::memory_order_relaxed);
  if (smcd::stack* own = stack()) {
    known.link.move_to(*own);
  } else {
    known.link.stay_on_tcp(smcd::decline_code::memory);
  }
}

// The process ends in good order: peers are told what a close would tell them,
// and nobody finds this process any more. Memory stays as it is, because other
// threads may still run.
void process::leave() noexcept {
  // Without a stack: a child of fork that used none, but holds connections.
  smcd::stack* known = stack_.load(std::memory_order_acquire);
  if (live_.load(std::memory_order_acquire) == nullptr || !is_self() || has_left_.exchange(true)) {
    return;
  }
  for (int fd = table_.next(0); fd >= 0; fd = table_.next(static_cast<unsigned>(fd) + 1)) {
    endpoint* at = table_.find(fd);
    if (at == nullptr || at->kind != endpoint::kind_of::stream || !at->link.is_open() ||
        at->descriptors.exchange(0, std::memory_order_relaxed) == 0) {
      continue;
    }
    tcp_socket tcp(fd);
    if (at->link.say_goodbye(tcp) == smcd::connection::close_way::reset) reset_on_close(fd);
  }
  // A child may go on with our connections; then whoever comes next sweeps.
  if (known != nullptr && !has_forked_.load(std::memory_order_relaxed)) known->leave();
}

void process::log(const char* format, ...) noexcept {
  const dibs::cancel_shield not_cancelled;
  if (!settings().logs) return;
  char line[256];
  int used = std::snprintf(line, sizeof line, "dibsock[%d]: ", static_cast<int>(::getpid()));
  std::va_list arguments;
  va_start(arguments, format);
  used += std::vsnprintf(line + used, sizeof line - static_cast<std::size_t>(used) - 1, format,
                         arguments);
  va_end(arguments);
  used = std::min(used, static_cast<int>(sizeof line) - 2);
  line[used++] = '\n';
  static_cast<void>(!real.write(2, static_cast<const void*>(line), static_cast<std::size_t>(used)));
}

}  // namespace shim
