// SPDX-License-Identifier: Apache-2.0
#include "generate.hpp"

#include "page.hpp"

#include <support/random.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>

namespace oracle {
namespace {

enum class holds { nothing, listener, stream, epoll };
struct slot_state {
  holds what = holds::nothing;
  int thing = -1;  // end or listener
};

// What the generator believes of the program so far. It need not be right.
class writer {
 public:
  writer(std::uint64_t seed, bool switches_soon)
      : random_(seed), may_thread_(seed / block_size % 2 == 1), switches_soon_(switches_soon) {}

  program write() {
    set_up();
    const std::size_t wanted = made_.steps.size() + random_.between(8, 50);
    // There may be nothing left to move.
    for (int tries = 0; tries < 200; ++tries) {
      // A move may be a dozen of steps.
      if (made_.steps.size() >= wanted || made_.steps.size() + 24 >= max_steps) break;
      one_move();
    }
    // Whatever is under way arrives.
    for (std::size_t p : {A, B}) {
      for (const int slot : slots_of(p, holds::stream)) {
        if (made_.steps.size() + 2 < max_steps) add(main_of(p), op::drain, {slot, 65536});
      }
    }
    return made_;
  }

 private:
  using values = std::array<std::int32_t, arg_count>;

  step& add(std::size_t who, op what, const values& args) {
    step made;
    made.who = static_cast<std::uint8_t>(who);
    made.what = what;
    made.args = args;
    made_.steps.push_back(made);
    return made_.steps.back();
  }

  // ---- who, and on what ----------------------------------------------------

  static std::size_t main_of(std::size_t process) { return process; }
  std::size_t some_process() {
    std::vector<std::size_t> there;
    for (std::size_t p = 0; p < process_count; ++p) {
      if (alive_[p]) there.push_back(p);
    }
    return there[random_.below(there.size())];
  }
  std::size_t some_actor(std::size_t process) {
    return process < 2 && has_thread_[process] && random_.one_in(2) ? process + process_count
                                                                    : process;
  }
  std::vector<int> slots_of(std::size_t process, holds what) const {
    std::vector<int> found;
    if (!alive_[process]) return found;
    for (std::size_t i = 0; i < slot_count; ++i) {
      if (slots_[process][i].what == what) found.push_back(static_cast<int>(i));
    }
    return found;
  }
  int some_slot(std::size_t process, holds what) {
    const std::vector<int> all = slots_of(process, what);
    return all.empty() ? -1 : all[random_.below(all.size())];
  }
  int free_slot(std::size_t process) {
    const std::vector<int> all = slots_of(process, holds::nothing);
    return all.empty() ? static_cast<int>(slot_count) - 1 : all.front();
  }
  slot_state& at(std::size_t process, int slot) {
    return slots_[process][static_cast<std::size_t>(slot)];
  }
  int end_at(std::size_t process, int slot) { return at(process, slot).thing; }
  // Somebody who holds that end.
  bool find_holder(int end, std::size_t& process, int& slot) {
    const std::size_t first = random_.below(process_count);
    for (std::size_t i = 0; i < process_count; ++i) {
      const std::size_t p = (first + i) % process_count;
      for (const int one : slots_of(p, holds::stream)) {
        if (end_at(p, one) != end) continue;
        process = p;
        slot = one;
        return true;
      }
    }
    return false;
  }

  // ---- sizes ---------------------------------------------------------------

  int some_size() {
    if (random_.one_in(8)) return static_cast<int>(random_.up_to(300'000));
    if (random_.one_in(3)) return static_cast<int>(random_.up_to(20'000));
    return static_cast<int>(random_.up_to(1500));
  }
  int small_size() { return static_cast<int>(random_.between(1, 2000)); }

  // ---- beginning -----------------------------------------------------------

  void set_up() {
    const std::size_t connections = random_.one_in(2) ? 1 : random_.between(1, 4);
    const std::size_t listens = random_.below(2);
    const bool talks_to_itself = random_.one_in(4);
    const std::size_t connects = talks_to_itself ? listens : 1 - listens;
    make_listener(listens);
    for (std::size_t i = 0; i < connections; ++i) {
      const bool is_mixed = random_.one_in(6);
      make_connection(is_mixed ? listens : connects, listens, random_.one_in(6));
    }
    if (may_thread_ && random_.one_in(2)) begin_thread(random_.below(2));
    may_kill_ = switches_soon_ && random_.one_in(8);
    // Most connections are in use before anything odd happens.
    for (int end = 0; end < ends_; end += 2) {
      std::size_t rounds = random_.one_in(6) ? 0 : random_.between(2, 10);
      if (connections == 1) rounds *= 2;
      if (may_kill_) rounds = 8;
      while (rounds-- > 0) exchange(end + static_cast<int>(random_.below(2)));
    }
  }
  void make_listener(std::size_t process) {
    if (listeners_ >= static_cast<int>(listener_count)) return;
    const int slot = free_slot(process);
    add(process, op::listen, {slot, listeners_});
    at(process, slot) = {holds::listener, listeners_++};
  }
  void make_connection(std::size_t from, std::size_t to, bool is_nonblocking) {
    const int listener = some_slot(to, holds::listener);
    if (listener < 0 || ends_ + 2 > static_cast<int>(max_ends)) return;
    const int client = free_slot(from);
    add(from, op::connect, {client, at(to, listener).thing, is_nonblocking ? 1 : 0});
    at(from, client) = {holds::stream, ends_};
    const int server = free_slot(to);
    add(to, op::accept, {server, listener, random_.one_in(6) ? 1 : 0});
    at(to, server) = {holds::stream, ends_ + 1};
    ends_ += 2;
  }
  void begin_thread(std::size_t process) {
    add(process, op::thread, {});
    has_thread_[process] = true;
  }
  void exchange(int end) {
    std::size_t p = 0;
    std::size_t q = 0;
    int slot = 0;
    int other = 0;
    if (!find_holder(end, p, slot) || !find_holder(end ^ 1, q, other)) return;
    const int size = small_size();
    add(some_actor(p), op::write, {slot, size});
    add(some_actor(q), op::recv, {other, size + static_cast<int>(random_.below(3)) - 1, 0});
  }

  // ---- moves ---------------------------------------------------------------

  void one_move() {
    const std::size_t p = some_process();
    const std::size_t what = random_.below(1000);
    if (what < 230) return write_some(p);
    if (what < 460) return read_some(p);
    if (what < 540) return look(p);
    if (what < 660) return use_set(p);
    if (what < 730) return overlap(p);
    if (what < 750) return bulk(p);
    if (what < 785) return shut(p);
    if (what < 815) return close_one(p);
    if (what < 840) return set_blocking(p);
    if (what < 870) return duplicate(p);
    if (what < 900) return set_option(p);
    if (what < 915) return one_more(p);
    if (what < 930) return family(p);
    if (what < 950) return misuse(p);
    if (what < 965) return kill_one();
    ask(p);
  }

  void write_some(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    const std::size_t who = some_actor(p);
    const int size = some_size();
    const int flags =
        (random_.one_in(4) ? MSG_DONTWAIT : 0) | (random_.one_in(3) ? MSG_NOSIGNAL : 0);
    switch (random_.below(12)) {
      case 0: add(who, op::writev, {slot, size}); break;
      case 1: add(who, op::sendmsg, {slot, size, flags}); break;
      case 2: add(who, op::sendto, {slot, size, flags}); break;
      case 3: add(who, op::pwritev2, {slot, size}); break;
      case 4: add(who, op::sendmmsg, {slot, small_size(), flags, some_count()}); break;
      case 5: add(who, op::sendfile, {slot, size, random_.one_in(2) ? 1 : 0}); break;
      case 6:
      case 7:
      case 8: add(who, op::write, {slot, size}); break;
      default: add(who, op::send, {slot, size, flags});
    }
  }
  int some_count() { return static_cast<int>(random_.below(5)); }

  void read_some(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    const std::size_t who = some_actor(p);
    const int size = some_size();
    int flags = 0;
    if (random_.one_in(6)) flags |= MSG_PEEK;
    if (random_.one_in(5)) flags |= MSG_DONTWAIT;
    if (random_.one_in(5)) flags |= MSG_WAITALL;
    if (random_.one_in(16)) flags |= MSG_TRUNC;
    switch (random_.below(14)) {
      case 0: add(who, op::readv, {slot, size, some_count()}); break;
      case 1: add(who, op::recvmsg, {slot, size, flags, some_count()}); break;
      case 2: add(who, op::recvfrom, {slot, size, flags}); break;
      case 3: add(who, op::preadv2, {slot, size, 0, some_count()}); break;
      case 4: add(who, op::recvmmsg, {slot, small_size(), flags, some_count()}); break;
      case 5: add(who, op::drain, {slot, small_size() * 4}); break;
      case 6:
      case 7:
      case 8:
      case 9: add(who, op::read, {slot, size}); break;
      default: add(who, op::recv, {slot, size, flags});
    }
  }

  void look(std::size_t p) {
    values args{};
    args[0] = static_cast<std::int32_t>(random_.below(2));
    args[1] = static_cast<std::int32_t>(random_.between(1, 3));
    for (std::size_t i = 0; i < 3; ++i) {
      args[2 + 2 * i] = some_slot(p, random_.one_in(8) ? holds::listener : holds::stream);
      args[3 + 2 * i] = some_events();
    }
    constexpr std::array<op, 6> calls{op::poll,  op::poll,   op::poll,
                                      op::ppoll, op::select, op::pselect};
    add(some_actor(p), calls[random_.below(calls.size())], args);
  }
  std::int32_t some_events() {
    constexpr std::array<std::int32_t, 6> sets{
        POLLIN, POLLIN | POLLOUT, POLLOUT, POLLIN | POLLRDHUP, POLLIN | POLLPRI, 0};
    return sets[random_.below(sets.size())];
  }

  void use_set(std::size_t p) {
    const int set = some_slot(p, holds::epoll);
    const std::size_t who = some_actor(p);
    if (set < 0 || random_.one_in(20)) {
      const int made = free_slot(p);
      add(who, op::epoll_create, {made});
      at(p, made) = {holds::epoll, -1};
      for (const int slot : slots_of(p, holds::stream)) enter(who, made, slot, EPOLL_CTL_ADD);
      return;
    }
    const std::size_t what = random_.below(10);
    if (what < 6) {
      add(who, op::epoll_wait, {set, 8, random_.one_in(3) ? 1 : 0, random_.one_in(6) ? 1 : 0});
      return;
    }
    const int slot = some_slot(p, random_.one_in(10) ? holds::listener : holds::stream);
    if (slot < 0) return;
    enter(who, set, slot, what < 8 ? EPOLL_CTL_MOD : what < 9 ? EPOLL_CTL_ADD : EPOLL_CTL_DEL);
  }
  void enter(std::size_t who, int set, int slot, int how) {
    std::uint32_t events = 0;
    if (!random_.one_in(8)) events |= EPOLLIN;
    if (random_.one_in(3)) events |= EPOLLOUT;
    if (random_.one_in(3)) events |= EPOLLRDHUP;
    if (random_.one_in(2)) events |= EPOLLET;
    if (random_.one_in(6)) events |= EPOLLONESHOT;
    add(who, op::epoll_ctl,
        {set, slot, how, static_cast<std::int32_t>(events),
         static_cast<std::int32_t>(random_.below(1000))});
  }

  // One waits, another one makes an end of it.
  void overlap(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    std::size_t q = 0;
    int other = 0;
    if (slot < 0 || !find_holder(end_at(p, slot) ^ 1, q, other)) return;
    const std::size_t who = some_actor(p);
    const std::size_t feeder = some_actor(q);
    if (who == feeder) return;
    const int size = small_size();
    const int set = some_slot(p, holds::epoll);
    if (set >= 0 && random_.one_in(2)) {
      add(who, op::epoll_wait, {set, 8, 1}).overlaps = true;
    } else if (random_.one_in(3)) {
      add(who, op::poll, {1, 1, slot, POLLIN | (random_.one_in(2) ? POLLRDHUP : 0)}).overlaps =
          true;
    } else {
      const int flags = random_.one_in(3) ? MSG_WAITALL : random_.one_in(6) ? MSG_PEEK : 0;
      const int wanted = static_cast<int>(random_.between(1, static_cast<std::size_t>(size)));
      add(who, op::recv, {slot, wanted, flags}).overlaps = true;
    }
    if (random_.one_in(12)) {
      add(feeder, op::shutdown, {other, random_.one_in(2) ? SHUT_WR : SHUT_RDWR});
    } else {
      add(feeder, op::write, {other, size});
    }
  }

  void bulk(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    std::size_t q = 0;
    int other = 0;
    if (slot < 0 || !find_holder(end_at(p, slot) ^ 1, q, other)) return;
    const int size = static_cast<int>(random_.between(1, random_.one_in(3) ? 3'000'000 : 200'000));
    const auto piece = [&] { return static_cast<int>(random_.between(500, 100'000)); };
    // The reader may have something to read before.
    if (random_.one_in(2)) {
      add(some_actor(p), op::put, {slot, size, piece()}).overlaps = true;
      add(some_actor(q), op::take, {other, size + 2'000'000, piece()});
      made_.steps.back().args[1] = size;
    } else {
      add(some_actor(q), op::take, {other, size, piece()}).overlaps = true;
      add(some_actor(p), op::put, {slot, size, piece()});
    }
  }

  void shut(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    const int how = random_.one_in(2) ? SHUT_WR : random_.one_in(2) ? SHUT_RD : SHUT_RDWR;
    add(some_actor(p), op::shutdown, {slot, how});
  }
  void close_one(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    add(some_actor(p), op::close, {slot, random_.one_in(4) ? 1 : 0});
    at(p, slot).what = holds::nothing;
  }
  void set_blocking(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    add(some_actor(p), op::nonblock, {slot, random_.one_in(2) ? 1 : 0, random_.one_in(2) ? 1 : 0});
  }
  void duplicate(std::size_t p) {
    const int slot = some_slot(p, random_.one_in(8) ? holds::listener : holds::stream);
    if (slot < 0) return;
    const std::size_t who = some_actor(p);
    const int onto = some_slot(p, holds::stream);
    if (onto < 0) return;
    const int made = free_slot(p);
    switch (random_.below(4)) {
      case 0: add(who, op::dup, {slot, made}); break;
      case 1:
        add(who, op::dup2, {slot, onto});
        at(p, onto) = at(p, slot);
        return;
      case 2:
        add(who, op::dup3, {slot, onto, random_.one_in(2) ? O_CLOEXEC : 0});
        at(p, onto) = at(p, slot);
        return;
      default: add(who, op::dupfd, {slot, made, static_cast<int>(random_.below(100))});
    }
    at(p, made) = at(p, slot);
  }

  void set_option(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    const std::size_t who = some_actor(p);
    switch (random_.below(6)) {
      case 0:
        add(who, op::setopt, {slot, SOL_SOCKET, SO_RCVTIMEO, random_.one_in(3) ? 0 : 2});
        break;
      case 1:
        add(who, op::setopt, {slot, SOL_SOCKET, SO_SNDTIMEO, random_.one_in(3) ? 0 : 500});
        break;
      case 2: add(who, op::setopt, {slot, SOL_SOCKET, SO_LINGER, random_.one_in(4) ? 0 : 1}); break;
      case 3:
        add(who, op::setopt,
            {slot, SOL_SOCKET, SO_RCVLOWAT, static_cast<int>(random_.up_to(3000))});
        break;
      case 4: add(who, op::setopt, {slot, IPPROTO_TCP, TCP_NODELAY, 1}); break;
      default: add(who, op::setopt, {slot, SOL_SOCKET, SO_KEEPALIVE, 1});
    }
  }

  // Another connection, while others are in use.
  void one_more(std::size_t p) {
    if (may_kill_) return;
    const std::size_t to = random_.below(2);
    if (!alive_[to]) return;
    if (slots_of(to, holds::listener).empty()) return make_listener(to);
    const bool is_child = p >= 2;
    make_connection(is_child ? p : random_.one_in(3) ? to : p, to, random_.one_in(3));
  }

  // A child, or its end; or one that does nothing here, of anybody.
  void family(std::size_t p) {
    if (random_.one_in(4)) {
      add(some_actor(p), op::spawn, {static_cast<int>(random_.below(4))});
      return;
    }
    if (p >= 2) p -= 2;
    if (!alive_[p]) return;
    const std::size_t child = p + 2;
    if (!alive_[child]) {
      add(p, op::fork, {});
      slots_[child] = slots_[p];
      alive_[child] = true;
    } else {
      add(p, random_.one_in(3) ? op::kill : op::exit, {static_cast<int>(child)});
      alive_[child] = false;
    }
  }

  // Only where no message of a handshake can be on its way, which the kernel of
  // a dead process would answer with a reset.
  void kill_one() {
    if (!may_kill_) return;
    const std::size_t p = random_.below(2);
    if (!alive_[p] || !alive_[1 - p]) return;
    add(driver, op::kill, {static_cast<int>(p)});
    alive_[p] = false;
  }

  void misuse(std::size_t p) {
    const int slot = some_slot(p, random_.one_in(2) ? holds::stream : holds::nothing);
    const std::size_t who = some_actor(p);
    const int any = random_.one_in(6) ? -1 : slot;
    switch (random_.below(10)) {
      case 0: add(who, op::read, {any, some_size(), 1}); break;
      case 1: add(who, op::recv, {any, -1, MSG_DONTWAIT}); break;
      case 2: add(who, op::write, {any, small_size(), 1}); break;
      case 3: add(who, op::send, {any, small_size(), MSG_NOSIGNAL, 1}); break;
      case 4: add(who, op::writev, {any, small_size(), -1}); break;
      case 5: add(who, op::shutdown, {any, 3}); break;
      case 6: add(who, op::fionread, {any}); break;
      case 7: add(who, op::read, {any, 10}); break;
      case 8: add(who, op::close, {any}); break;
      default: add(who, op::epoll_ctl, {any, slot, EPOLL_CTL_ADD, EPOLLIN});
    }
  }

  void ask(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    constexpr std::array<int, 5> names{SO_ERROR, SO_ERROR, SO_TYPE, SO_ACCEPTCONN, SO_RCVLOWAT};
    if (random_.one_in(2)) {
      add(some_actor(p), op::fionread, {slot});
    } else {
      add(some_actor(p), op::getopt, {slot, SOL_SOCKET, names[random_.below(names.size())]});
    }
  }

  support::random random_;
  bool may_thread_;
  bool switches_soon_;
  bool may_kill_ = false;
  program made_;
  std::array<std::array<slot_state, slot_count>, process_count> slots_{};
  std::array<bool, process_count> alive_{true, true, false, false};
  std::array<bool, 2> has_thread_{};
  int listeners_ = 0;
  int ends_ = 0;
};

}  // namespace

std::vector<std::string> settings_of(std::uint64_t block) {
  support::random random(block * 7919 + 1);
  constexpr std::array<int, 8> calls{0, 0, 1, 1, 2, 3, 5, 8};
  constexpr std::array<const char*, 4> buffers{"16k", "16k", "64k", "256k"};
  constexpr std::array<int, 3> patience{0, 500, 3000};
  return {"DIBSOCK_SWITCH_CALLS=" + std::to_string(calls[random.below(calls.size())]),
          std::string("DIBSOCK_BUFFER=") + buffers[random.below(buffers.size())],
          "DIBSOCK_PATIENCE_US=" + std::to_string(patience[random.below(patience.size())]),
          "DIBSOCK_SPIN_US=" + std::to_string(random.one_in(2) ? 0 : 20)};
}

program generate(std::uint64_t seed) {
  std::vector<std::string> settings = settings_of(seed / block_size);
  const int calls = std::atoi(settings[0].c_str() + settings[0].find('=') + 1);
  program made = writer(seed, calls <= 2).write();
  made.environment = std::move(settings);
  return made;
}

}  // namespace oracle
