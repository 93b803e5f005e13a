// SPDX-License-Identifier: Apache-2.0
#pragma once
// Many sockets in one epoll set and one thread: round trips on some of them
// while the others have nothing to say, or none at all.

#include <worker/idle.hpp>
#include <worker/loops.hpp>
#include <worker/sockets.hpp>
#include <worker/tcp_bytes.hpp>

#include <fcntl.h>
#include <sys/epoll.h>

#include <array>
#include <optional>
#include <vector>

namespace bench {

// Sockets that do not block, each known to its event by its place in the list.
class crowd {
 public:
  struct member {
    descriptor socket;
    std::size_t got = 0;      // of the message under way
    std::uint64_t began = 0;  // its round trip
    std::size_t rounds = 0;
  };

  template <class Make>
  crowd(std::size_t count, Make make)
      : set_(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")), all_(count) {
    for (std::size_t i = 0; i < count; ++i) {
      all_[i].socket = make();
      check(::fcntl(all_[i].socket.get(), F_SETFL, O_NONBLOCK), "O_NONBLOCK");
      epoll_event wanted{};
      wanted.events = EPOLLIN;
      wanted.data.u64 = i;
      check(::epoll_ctl(set_.get(), EPOLL_CTL_ADD, all_[i].socket.get(), &wanted), "epoll_ctl");
    }
  }

  // Calls `use` for each member that has something to read.
  template <class Use>
  void wait(int timeout_ms, Use use) {
    std::array<epoll_event, 256> events;
    const int count =
        ::epoll_wait(set_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
    for (int i = 0; i < count; ++i) use(all_[events[static_cast<std::size_t>(i)].data.u64]);
  }
  [[nodiscard]] std::vector<member>& members() noexcept { return all_; }

 private:
  descriptor set_;
  std::vector<member> all_;
};

// Nothing: not now. 0: the end.
[[nodiscard]] inline std::optional<std::size_t> read_now(const descriptor& from,
                                                         std::span<std::byte> to) {
  const ssize_t got = ::recv(from.get(), to.data(), to.size(), 0);
  if (got >= 0) return static_cast<std::size_t>(got);
  if (errno != EAGAIN && errno != EINTR) check(got, "recv");
  return std::nullopt;
}

// A message is short, and one at a time: there is room for it.
inline void write_now(const descriptor& to, std::span<const std::byte> from) {
  const ssize_t sent = check(::send(to.get(), from.data(), from.size(), MSG_NOSIGNAL), "send");
  if (static_cast<std::size_t>(sent) != from.size()) throw std::runtime_error("no room to send");
}

inline void echo_many(const task& how) {
  idle_watch idle(how);
  const sockets side(how);
  crowd all(how.connections, [&] { return side.accept(); });
  message bytes(how.size);
  std::size_t left = how.connections;
  const cpu_watch cpu;
  while (left > 0) {
    all.wait(-1, [&](crowd::member& who) {
      idle.stir();
      const auto got = read_now(who.socket, bytes);
      if (!got) return;
      if (*got > 0) return write_now(who.socket, std::span(bytes).first(*got));
      descriptor(std::move(who.socket));
      --left;
    });
  }
  say("cpu", cpu.share());
}

class many_client {
 public:
  explicit many_client(const task& how)
      : how_(how),
        idle_(how),
        side_(how),
        all_(how.connections, [&] { return side_.connect(); }),
        bytes_(how.size) {}

  void run() {
    settle();
    how_.what == kind::idle ? leave_alone() : measure();
  }

 private:
  // So many round trips on each that it is what it is going to be.
  void settle() {
    constexpr std::size_t enough = 16;
    exchange(how_.connections, [](crowd::member& who) { return ++who.rounds < enough; });
  }

  void measure() {
    measurement measured(how_, [this] { return kernel_bytes(); });
    bool is_over = false;
    exchange(how_.active, [&](crowd::member& who) {
      if (!is_over) is_over = !measured.again(who.began);
      return !is_over;
    });
    measured.report(2 * how_.size);
  }

  void leave_alone() {
    idle_.stir();
    const std::uint64_t until = now_ns() + how_.hold_ms * 1'000'000;
    for (std::uint64_t now = now_ns(); now < until; now = now_ns()) {
      all_.wait(static_cast<int>((until - now) / 1'000'000) + 1, [](crowd::member&) {});
    }
    idle_.stir();
  }

  // Round trips on the first `active`, one after the other on each, for as
  // long as `again` says so when one has ended.
  template <class Again>
  void exchange(std::size_t active, Again again) {
    for (std::size_t i = 0; i < active; ++i) ask(all_.members()[i]);
    while (active > 0) {
      all_.wait(-1, [&](crowd::member& who) {
        const auto got = read_now(who.socket, std::span(bytes_).subspan(who.got));
        if (!got) return;
        if (*got == 0) throw server_left();
        who.got = (who.got + *got) % how_.size;
        if (who.got != 0) return;
        again(who) ? ask(who) : static_cast<void>(--active);
      });
    }
  }

  void ask(crowd::member& who) {
    who.began = ticks();
    write_now(who.socket, bytes_);
  }

  [[nodiscard]] std::optional<std::uint64_t> kernel_bytes() {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < how_.active; ++i) {
      const auto bytes = tcp_bytes(all_.members()[i].socket.get());
      if (!bytes) return std::nullopt;
      sum += *bytes;
    }
    return sum;
  }

  const task& how_;
  idle_watch idle_;
  sockets side_;
  crowd all_;
  message bytes_;
};

inline void work_many(const task& how) { how.is_server ? echo_many(how) : many_client(how).run(); }

}  // namespace bench
