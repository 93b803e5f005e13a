// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/wait.hpp>

#include <devices/chaos.hpp>
#include <socket_shim/memory.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <utility>

namespace shim {
namespace {

constexpr std::uint64_t ns_per_s = 1'000'000'000;

std::uint64_t now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * ns_per_s +
         static_cast<std::uint64_t>(now.tv_nsec);
}

constinit pool<sleeper> sleepers;
constinit std::atomic<sleeper*> live_sleepers{nullptr};
thread_local sleeper* own_sleeper = nullptr;

// Gives a thread's queue back when the thread ends.
void watch_thread_end(sleeper* of) noexcept {
  static std::atomic<pthread_key_t> key{0};
  static std::atomic<int> state{0};  // 0 new, 1 making, 2 made
  int expected = 0;
  if (state.compare_exchange_strong(expected, 1)) {
    pthread_key_t made{};
    if (::pthread_key_create(&made, [](void* ended) {
          own_sleeper = nullptr;
          release_sleeper(static_cast<sleeper*>(ended));
        }) == 0) {
      key.store(made);
      state.store(2);
    }
  }
  if (state.load() == 2) ::pthread_setspecific(key.load(), of);
}

}  // namespace

// ---- deadline --------------------------------------------------------------

deadline deadline::after_us(std::uint64_t us) noexcept {
  deadline made;
  made.at_ns_ = now_ns() + us * 1000;
  return made;
}

deadline deadline::after(const timespec* timeout) noexcept {
  if (timeout == nullptr) return never();
  deadline made;
  const auto seconds = static_cast<std::uint64_t>(timeout->tv_sec);
  if (seconds > forever / ns_per_s / 4) return never();
  made.at_ns_ = now_ns() + seconds * ns_per_s + static_cast<std::uint64_t>(timeout->tv_nsec);
  return made;
}

deadline deadline::after_ms(int timeout) noexcept {
  return timeout < 0 ? never() : after_us(static_cast<std::uint64_t>(timeout) * 1000);
}

bool deadline::is_over() const noexcept { return !is_never() && now_ns() >= at_ns_; }

deadline deadline::sooner_us(std::uint64_t us) const noexcept {
  deadline made;
  made.at_ns_ = std::min(at_ns_, now_ns() + us * 1000);
  return made;
}

timespec deadline::left() const noexcept {
  const std::uint64_t now = now_ns();
  const std::uint64_t ns = at_ns_ > now ? at_ns_ - now : 0;
  return {static_cast<time_t>(ns / ns_per_s), static_cast<long>(ns % ns_per_s)};
}

bool is_time(const timespec* of) noexcept {
  return is_readable(of, sizeof *of) && of->tv_sec >= 0 && of->tv_nsec >= 0 &&
         of->tv_nsec < static_cast<long>(ns_per_s);
}

// ---- sleepers --------------------------------------------------------------

bool sleeper::prepare() noexcept {
  const dibs::cancel_shield not_cancelled;
  if (dibs::chaos::one_in(32)) return false;
  smcd::stack* stack = self.stack();
  if (stack == nullptr) return false;
  const int saved = errno;
  const int old_bell = queue_.is_open() ? queue_.bell() : -1;
  if (!queue_.is_open()) {
    if (auto opened = dibs::event_queue::open(stack->queues())) queue_ = std::move(*opened);
  }
  const bool is_ready = queue_.is_open() && queue_.ensure_bell();
  if (is_ready && queue_.bell() != old_bell) queue_.hide_bell();
  errno = saved;
  return is_ready;
}

void sleeper::abandon() noexcept {
  queue_.abandon();
  spin_ = {};
}

sleeper* make_sleeper() noexcept {
  sleeper* made = sleepers.take();
  if (made == nullptr) return nullptr;
  if (made->next_live == nullptr) {
    sleeper* first = live_sleepers.load(std::memory_order_relaxed);
    do {
      made->next_live = first == nullptr ? made : first;  // the last one points to itself
    } while (!live_sleepers.compare_exchange_weak(first, made, std::memory_order_release));
  }
  return made;
}

void release_sleeper(sleeper* what) noexcept {
  if (what == nullptr) return;
  const int saved = errno;
  what->queue().close();
  what->spin() = {};
  sleepers.give_back(what);
  errno = saved;
}

sleeper* this_sleeper() noexcept {
  if (own_sleeper == nullptr) [[unlikely]] {
    own_sleeper = make_sleeper();
    if (own_sleeper != nullptr) watch_thread_end(own_sleeper);
  }
  return own_sleeper;
}

void reset_waiting() noexcept {
  for (sleeper* at = live_sleepers.load(std::memory_order_acquire); at != nullptr;
       at = at->next_live == at ? nullptr : at->next_live) {
    at->abandon();
  }
}

// ---- waiting ---------------------------------------------------------------

std::uint64_t longest_spin() noexcept {
  return std::uint64_t{self.settings().spin_us} * dibs::ticks_per_us;
}

int sleep_on(sleeper* who, pollfd* fds, nfds_t count, const deadline& until, const sigset_t* mask,
             rollback if_cancelled) {
  if (dibs::chaos::one_in(16)) return 0;  // nothing happened, and no time is up
  self.rest(false);
  const bool has_bell = who != nullptr;
  fds[count] = {has_bell ? who->queue().bell() : -1, POLLIN, 0};
  const timespec left = until.is_never() ? timespec{} : until.left();
  int ready = 0;
  pthread_cleanup_push(if_cancelled.run, if_cancelled.of);
  ready = real.ppoll(fds, count + 1, until.is_never() ? nullptr : &left, mask);
  pthread_cleanup_pop(0);
  if (ready == 0) self.rest(true);
  if (has_bell && ready > 0 && fds[count].revents != 0) {
    const dibs::cancel_shield not_cancelled;
    const int saved = errno;
    who->queue().drain_bell();
    errno = saved;
  }
  return ready;
}

bool handlers_restart() noexcept {
  bool all = true;
  for (int signal = 1; signal < 65 && all; ++signal) {
    struct sigaction how {};
    if (::sigaction(signal, nullptr, &how) != 0) continue;
    const bool is_handled = (how.sa_flags & SA_SIGINFO) != 0 ||
                            (how.sa_handler != SIG_DFL && how.sa_handler != SIG_IGN);
    if (is_handled) all = (how.sa_flags & SA_RESTART) != 0;
  }
  return all;
}

short tcp_events(const endpoint& of, short events, bool is_memory) noexcept {
  int wanted = 0;
  if ((events & POLLIN) != 0) wanted |= POLLIN;
  if ((events & POLLOUT) != 0) {
    if (!is_memory) {
      wanted |= POLLOUT;
    } else if (!of.link.peer_is_done_sending()) {
      wanted |= POLLRDHUP;
    }
  }
  if (of.link.is_returning()) wanted |= POLLOUT;
  return static_cast<short>(wanted);
}

// A low mark keeps a connection on TCP. A child may have set it: then the kernel
// knows.
std::size_t low_mark_of(endpoint& of, int fd) noexcept {
  if (of.was_shared.load(std::memory_order_relaxed) &&
      (!of.link.is_established() || of.link.asks_back())) [[unlikely]] {
    int mark = 0;
    socklen_t size = sizeof mark;
    const int saved = errno;
    if (real.getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, static_cast<void*>(&mark), &size) == 0) {
      of.low_mark.store(mark > 1 ? static_cast<std::size_t>(mark) : 1, std::memory_order_relaxed);
    }
    errno = saved;
  }
  return of.low_mark.load(std::memory_order_relaxed);
}

bool is_true_input(endpoint& of, int fd) noexcept {
  tcp_socket tcp(fd);
  if (!of.link.has_input(tcp)) return false;
  const std::size_t low_mark = low_mark_of(of, fd);
  return low_mark <= 1 || tcp.unread() < low_mark || of.link.readable_size(tcp) >= low_mark ||
         tcp.has_hung_up();
}

// The kernel makes a socket readable before it says POLLRDHUP, and an error
// shows before POLLHUP does. Who sleeps until then sees neither; but memory tells
// of an end before TCP does, and so we look while it comes in. That is over for
// whoever gets the socket's lock, as SIOCINQ does.
short whole_end(endpoint& of, int fd, short asked, short told, bool is_talking) noexcept {
  constexpr short ends = POLLIN | POLLRDNORM | POLLERR | POLLHUP;
  if ((told & ends) == 0 || (told & POLLRDHUP) != 0) return told;
  if (!is_talking && !of.link.peer_is_done_sending()) return told;
  static_cast<void>(tcp_socket(fd).unread());
  pollfd again{fd, asked, 0};
  const dibs::cancel_shield not_cancelled;
  return real.poll(&again, nfds_t{1}, 0) > 0 ? static_cast<short>(told | again.revents) : told;
}

namespace {

// A waiter of one connection, with its bell armed, until it goes out of scope.
struct waiting {
  waiting(endpoint& stream, sleeper* sleeps) noexcept
      : on(stream), who(sleeps), word(sleeps != nullptr ? sleeps->queue().word(0) : 0) {
    is_entered = who != nullptr && on.link.enter_waiter(word);
    if (who != nullptr) who->queue().arm();
  }
  waiting(const waiting&) = delete;
  waiting& operator=(const waiting&) = delete;
  ~waiting() {
    if (who == nullptr) return;
    who->queue().disarm();
    on.link.leave_waiter(word);
  }
  static void roll_back(void* of) noexcept {
    auto* cancelled = static_cast<waiting*>(of);
    cancelled->~waiting();
    pinned::unpin(cancelled->on);
  }

  endpoint& on;
  sleeper* who;
  std::uint64_t word;
  bool is_entered = false;
};

}  // namespace

bool spin_for_input(endpoint& on) noexcept {
  sleeper* who = this_sleeper();
  if (who == nullptr || !on.link.is_established() || on.link.receives_on() != smcd::lane::dmb) {
    return false;
  }
  const auto found = [&]() noexcept { return on.link.input_hint(); };
  who->has_spun =
      !who->spin().spin(longest_spin(), found, [&]() noexcept { return on.link.shares_cpu(); });
  return !who->has_spun;
}

woken wait_stream(endpoint& on, int fd, short events, const deadline& until) {
  const bool is_input = (events & POLLIN) != 0;
  const auto found = [&]() noexcept {
    return is_input ? on.link.input_hint() : on.link.room_hint();
  };
  sleeper* who = this_sleeper();
  const auto is_in_memory = [&]() noexcept {
    return on.link.is_established() &&
           (is_input ? on.link.receives_on() : on.link.sends_on()) == smcd::lane::dmb;
  };
  if (is_in_memory() && who != nullptr && !std::exchange(who->has_spun, false) &&
      who->spin().spin(longest_spin(), found, [&]() noexcept { return on.link.shares_cpu(); })) {
    return woken::ready;
  }
  if (until.is_over()) return woken::timeout;

  if (who != nullptr && !who->prepare()) who = nullptr;
  waiting in(on, who);
  tcp_socket tcp(fd);
  // Asked once: another thread or a signal handler may change the lane, and
  // what we look at must be what we sleep on.
  const bool is_memory = is_in_memory();
  const bool is_ready = is_input ? found() : is_memory && on.link.has_room(tcp, dibs::ticks());
  woken answer = woken::ready;
  if (!is_ready) {
    deadline sleep_until = until;
    if (on.link.is_established()) {
      // Nobody rings for a queue that found no place, nor when patience ends.
      sleep_until = until.sooner_us(in.is_entered ? dibs::longest_sleep_us : unsure_us);
      if (is_memory && !is_input) {
        sleep_until = sleep_until.sooner_us(on.link.patience_us() + 100);
      }
    }
    pollfd fds[2] = {{fd, tcp_events(on, events, is_memory), 0}, {}};
    const int ready = sleep_on(who, fds, 1, sleep_until, nullptr, {waiting::roll_back, &in});
    if (ready < 0) {
      answer = errno == EINTR && (!until.is_never() || !handlers_restart()) ? woken::interrupted
                                                                            : woken::ready;
    } else if (ready == 0 && until.is_over()) {
      answer = woken::timeout;
    }
  }
  return answer;
}

}  // namespace shim
