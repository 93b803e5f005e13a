// SPDX-License-Identifier: Apache-2.0
// A process of the programs: player PAGE-FD PROCESS. Lives for many programs,
// knows nothing of what carries the bytes.
#include "player.hpp"

#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <pthread.h>
#include <csignal>
#include <cstdlib>

namespace oracle {
namespace {

std::atomic<std::int32_t> sigpipes;

class player {
 public:
  player(page& in, std::size_t process) : in_(in), process_(process), who_(process) {}

  void run() {
    for (;;) {
      const std::uint32_t wanted = await_order();
      if (wanted == page::leave) return;
      if (wanted == page::look) {
        look();
        order(in_, maker_of(process_), page::look);
      } else if (wanted == page::clean_up) {
        clean_up();
        order(in_, driver, page::clean_up);
      } else {
        take(wanted - 1);
      }
    }
  }

 private:
  std::uint32_t await_order() {
    std::atomic<std::uint32_t>& word = in_.orders[who_];
    for (;;) {
      const std::uint32_t wanted = word.exchange(0);
      if (wanted != 0) return wanted;
      await_change(word, 0, 1000);
      if (::kill(in_.driver_pid, 0) != 0) ::_exit(1);
    }
  }

  void take(std::uint32_t number) {
    const step& of = in_.steps[number];
    entry& log = in_.log[number];
    books book(in_, process_);
    log.late = book.settle();
    book.publish();  // the peer may have read since
    const bool is_offered = of.overlaps && number + 1 < in_.step_count && can_overlap(number + 1);
    call c{in_, book, of, log, memory(), number, is_offered};
    log.at.store(status::running);
    make_call(c);
    // Whoever waits at the same time may count the same signal.
    if (!of.overlaps && (number == 0 || !in_.steps[number - 1].overlaps))
      log.signals = sigpipes.load();
    book.publish();
    finish_entry(log, status::done);
    if (c.overlaps) return;
    await_overlapped(in_, number);
    pass_baton(in_, number + 1);
  }

  // The next step is somebody else's, who waits for nobody.
  bool can_overlap(std::uint32_t next) const {
    const std::size_t who = in_.steps[next].who;
    const bool follows_another = next >= 2 && in_.log[next - 2].at.load() == status::running;
    return who != who_ && who != driver && in_.actors[who].load() != 0 && !follows_another;
  }

  void make_call(call& c) {
    switch (c.of.what) {
      case op::fork: return call_fork(c);
      case op::spawn: return call_spawn(c);
      case op::exit:
      case op::kill: return end_child(c, c.of.what == op::kill);
      case op::thread: return start_thread(c);
      default: break;
    }
    if (c.of.what >= op::poll) return take_waiting_step(c);
    if (c.of.what >= op::write) return take_writing_step(c);
    if (c.of.what >= op::read) return take_reading_step(c);
    take_socket_step(c);
  }

  void call_fork(call& c) {
    const std::size_t child = process_ + 2;
    if (process_ >= 2 || who_ != process_ || in_.actors[child].load() != 0) return c.skip();
    in_.orders[child].store(0);
    const pid_t pid = ::fork();
    if (pid == 0) {
      process_ = who_ = child;
      has_thread_ = false;
      run();
      std::exit(0);
    }
    c.log.value = pid > 0 ? 0 : -1;
    if (pid <= 0) return;
    c.book.forked(child);
    in_.processes[child].pid = pid;
    in_.processes[child].is_alive.store(1);
    in_.actors[child].store(1);
  }

  // A child that ends at once, of fork or vfork; every other becomes another program before.
  static void call_spawn(call& c) {
    const bool execs = c.of.args[0] % 2 != 0;
    if (execs) c.book.lent();
    const pid_t pid = c.of.args[0] < 2 ? ::fork() : ::vfork();
    if (pid == 0) {
      if (execs) ::execl("/bin/true", "true", nullptr);
      ::_exit(0);
    }
    int status = -1;
    if (pid > 0) ::waitpid(pid, &status, 0);
    c.log.value = status;
  }

  void end_child(call& c, bool kills) {
    const std::size_t child = process_ + 2;
    if (process_ >= 2 || who_ != process_ || in_.actors[child].load() == 0) return c.skip();
    if (kills ? !books(in_, child).may_die() : !books(in_, child).may_leave()) return c.skip();
    const pid_t pid = in_.processes[child].pid;
    if (kills) {
      let_look(in_, child);
      ::kill(pid, SIGKILL);
    } else {
      order(in_, child, page::leave);
    }
    int status = -1;
    ::waitpid(pid, &status, 0);
    if (kills) ::usleep(1500);  // as pair::kill_step()
    c.log.value = status;
    c.book.died(child, kills);
  }

  void start_thread(call& c) {
    if (process_ >= 2 || who_ != process_ || has_thread_) return c.skip();
    const std::size_t thread = process_ + process_count;
    in_.orders[thread].store(0);
    child_.emplace(*this, thread);
    has_thread_ = ::pthread_create(&thread_, nullptr, &player::begin_thread, &*child_) == 0;
    c.log.value = has_thread_ ? 0 : -1;
    if (has_thread_) in_.actors[thread].store(1);
  }
  static void* begin_thread(void* of) {
    static_cast<player*>(of)->run();
    return nullptr;
  }

  void look() {
    books book(in_, process_);
    for (int fd = 3; fd < static_cast<int>(max_fds); ++fd) {
      pollfd one{fd, POLLIN, 0};
      if (book.end_of(fd) >= 0) ::poll(&one, 1, 0);
    }
  }

  void clean_up() {
    if (has_thread_) {
      order(in_, process_ + process_count, page::leave);
      ::pthread_join(thread_, nullptr);
      has_thread_ = false;
    }
    if (in_.processes[process_ + 2].pid > 0) {
      int status = 0;
      ::waitpid(in_.processes[process_ + 2].pid, &status, 0);
    }
    books book(in_, process_);
    const linger now{1, 0};
    for (int fd = 3; fd < static_cast<int>(max_fds); ++fd) {
      if (book.kind_of(fd) == fd_kind::none) continue;
      // Nothing stays behind in TIME_WAIT.
      if (book.end_of(fd) >= 0) ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
      ::close(fd);
    }
    sigpipes.store(0);
  }

  std::uint8_t* memory() {
    if (memory_ == nullptr) {
      void* got = ::mmap(nullptr, memory_size + 4096, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      memory_ = static_cast<std::uint8_t*>(got);
    }
    return memory_;
  }

  page& in_;
  std::size_t process_;
  std::size_t who_;
  std::uint8_t* memory_ = nullptr;
  bool has_thread_ = false;
  pthread_t thread_{};
  struct box {
    player* of = nullptr;
    void emplace(player& parent, std::size_t who) {
      if (of == nullptr) of = new player(parent.in_, parent.process_);
      of->process_ = parent.process_;
      of->who_ = who;
    }
    player& operator*() const { return *of; }
  } child_;
};

}  // namespace

int end_of_step(page& in, const step& of) {
  const books theirs(in, process_of(of.who));
  return theirs.end_of(theirs.fd_of(of.args[0]));
}

bool next_step_feeds(const call& c, int end, std::uint64_t size) {
  const step& next = c.next();
  const int other = end_of_step(c.in, next);
  if (other < 0) return false;
  const bool is_peer = other == static_cast<int>(peer_of(static_cast<std::size_t>(end)));
  if (next.what == op::shutdown) {
    return is_peer ? next.args[1] != SHUT_RD : other == end && next.args[1] != SHUT_WR;
  }
  if (!is_peer) return false;
  const end_book& of = c.in.ends[static_cast<std::size_t>(other)];
  if (next.what == op::close) return of.holders == 1;
  const bool is_sound = (next.what == op::write && next.args[2] == 0) || next.what == op::put ||
                        (next.what == op::send && next.args[2] == 0 && next.args[3] == 0);
  // How much of a large write a reader sees at once is not determined.
  const bool comes_whole = next.args[1] <= 2048 || c.of.what == op::take;
  return is_sound && !of.shut_write && comes_whole && next.args[1] > 0 &&
         static_cast<std::uint64_t>(next.args[1]) >= size;
}

bool next_step_tells(const call& c) {
  const step& next = c.next();
  const int end = end_of_step(c.in, next);
  if (end < 0) return false;
  const end_book& of = c.in.ends[static_cast<std::size_t>(end)];
  const bool is_write =
      (next.what == op::write && next.args[2] == 0) || (next.what == op::send && next.args[3] == 0);
  if (is_write) return !of.shut_write && next.args[1] > 0 && next.args[1] <= 2048;
  if (next.what == op::shutdown) return next.args[1] != SHUT_RD;
  return next.what == op::close && of.holders == 1 && !of.resets && c.book.unread(end) == 0;
}

}  // namespace oracle

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const int fd = std::atoi(arguments[1]);
  void* memory = ::mmap(nullptr, sizeof(oracle::page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return 2;
  ::close(fd);
  struct sigaction counts {};
  counts.sa_handler = [](int) { ++oracle::sigpipes; };
  counts.sa_flags = SA_RESTART;
  ::sigaction(SIGPIPE, &counts, nullptr);
  oracle::player(*static_cast<oracle::page*>(memory),
                 static_cast<std::size_t>(std::atoi(arguments[2])))
      .run();
}
