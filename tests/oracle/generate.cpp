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
  explicit writer(std::uint64_t seed) : random_(seed), may_thread_(seed / block_size % 2 == 1) {}

  program write() {
    set_up();
    const std::size_t wanted = made_.steps.size() + random_.between(8, 50);
    while (made_.steps.size() < wanted && made_.steps.size() + 8 < max_steps) one_move();
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
    // Most connections are in use before anything odd happens.
    for (int end = 0; end < ends_; end += 2) {
      std::size_t rounds = random_.one_in(4) ? 0 : random_.up_to(8);
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
    const std::size_t what = random_.below(100);
    if (what < 24) return write_some(p);
    if (what < 50) return read_some(p);
    if (what < 62) return look(p);
    if (what < 70) return overlap(p);
    if (what < 73) return bulk(p);
    if (what < 77) return shut(p);
    if (what < 80) return close_one(p);
    if (what < 83) return set_blocking(p);
    ask(p);
  }

  void write_some(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    const std::size_t who = some_actor(p);
    const int size = some_size();
    const int flags = (random_.one_in(4) ? MSG_DONTWAIT : 0) | (random_.one_in(3) ? MSG_NOSIGNAL : 0);
    if (random_.one_in(2)) {
      add(who, op::write, {slot, size});
    } else {
      add(who, op::send, {slot, size, flags});
    }
  }

  void read_some(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    const std::size_t who = some_actor(p);
    const int size = some_size();
    int flags = 0;
    if (random_.one_in(6)) flags |= MSG_PEEK;
    if (random_.one_in(5)) flags |= MSG_DONTWAIT;
    if (random_.one_in(5)) flags |= MSG_WAITALL;
    if (random_.one_in(8)) {
      add(who, op::drain, {slot, small_size() * 4});
    } else if (random_.one_in(2)) {
      add(who, op::read, {slot, size});
    } else {
      add(who, op::recv, {slot, size, flags});
    }
  }

  void look(std::size_t p) {
    values args{};
    args[0] = static_cast<std::int32_t>(random_.below(2));
    args[1] = static_cast<std::int32_t>(random_.between(1, 3));
    for (std::size_t i = 0; i < 3; ++i) {
      args[2 + 2 * i] = some_slot(p, holds::stream);
      args[3 + 2 * i] = some_events();
    }
    if (args[2] >= 0) add(some_actor(p), op::poll, args);
  }
  std::int32_t some_events() {
    constexpr std::array<std::int32_t, 6> sets{POLLIN, POLLIN | POLLOUT, POLLOUT,
                                               POLLIN | POLLRDHUP, POLLIN | POLLPRI, 0};
    return sets[random_.below(sets.size())];
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
    if (random_.one_in(3)) {
      add(who, op::poll, {1, 1, slot, POLLIN | (random_.one_in(2) ? POLLRDHUP : 0)}).overlaps = true;
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
  void ask(std::size_t p) {
    const int slot = some_slot(p, holds::stream);
    if (slot < 0) return;
    if (random_.one_in(2)) {
      add(some_actor(p), op::fionread, {slot});
    } else {
      add(some_actor(p), op::getopt, {slot, SOL_SOCKET, SO_ERROR});
    }
  }

  support::random random_;
  bool may_thread_;
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
  constexpr std::array<int, 8> calls{0, 1, 1, 2, 3, 5, 8, 20};
  constexpr std::array<const char*, 4> buffers{"16k", "16k", "64k", "256k"};
  constexpr std::array<int, 3> patience{0, 500, 3000};
  return {"DIBSOCK_SWITCH_CALLS=" + std::to_string(calls[random.below(calls.size())]),
          std::string("DIBSOCK_BUFFER=") + buffers[random.below(buffers.size())],
          "DIBSOCK_PATIENCE_US=" + std::to_string(patience[random.below(patience.size())]),
          "DIBSOCK_SPIN_US=" + std::to_string(random.one_in(2) ? 0 : 20)};
}

program generate(std::uint64_t seed) {
  program made = writer(seed).write();
  made.environment = settings_of(seed / block_size);
  return made;
}

}  // namespace oracle
