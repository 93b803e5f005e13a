// SPDX-License-Identifier: Apache-2.0
#pragma once
// Many sockets in one io_context and one thread, each a chain of operations:
// round trips on some of them while the others have nothing to say, or none at
// all.

#include <worker/idle.hpp>
#include <worker/native_async.hpp>

#include <chrono>
#include <functional>
#include <list>
#include <optional>

namespace bench {

template <class Over>
class async_crowd {
 public:
  explicit async_crowd(const task& how)
      : how_(how), idle_(how), place_(place_of(how)), acceptor_(io_) {}

  void serve() {
    listen(acceptor_, place_);
    const cpu_watch cpu;
    accept();
    io_.run();
    say("cpu", cpu.share());
  }

  void ask() {
    for (std::size_t i = 0; i < how_.connections; ++i) {
      add().socket.connect(place_);
      all_.back().socket.set_option(asio::ip::tcp::no_delay(true));
    }
    settle();
    if (how_.what == kind::idle) {
      idle_.stir();
      io_.restart();
      const auto work = asio::make_work_guard(io_);
      io_.run_for(std::chrono::milliseconds(how_.hold_ms));
      idle_.stir();
    } else {
      measure();
    }
  }

 private:
  struct member {
    typename Over::socket socket;
    message bytes;
    std::uint64_t began = 0;
    std::size_t rounds = 0;
  };

  member& add() {
    return all_.emplace_back(member{typename Over::socket(io_), message(how_.size), 0, 0});
  }

  // ---- server ----------------------------------------------------------------

  void accept() {
    if (all_.size() == how_.connections) return;
    member& next = add();
    acceptor_.async_accept(next.socket, then([this, &next] {
                             next.socket.set_option(asio::ip::tcp::no_delay(true));
                             echo(next);
                             accept();
                           }));
  }

  void echo(member& who) {
    asio::async_read(who.socket, asio::buffer(who.bytes),
                     then_or_end(
                         [this, &who] {
                           idle_.stir();
                           asio::async_write(who.socket, asio::buffer(who.bytes),
                                             then([this, &who] { echo(who); }));
                         },
                         [this, &who] {
                           idle_.stir();
                           who.socket.close();
                         }));
  }

  // ---- client ----------------------------------------------------------------

  // So many round trips on each that it is what it is going to be.
  void settle() {
    constexpr std::size_t enough = 16;
    exchange(how_.connections, [](member& who) { return ++who.rounds < enough; });
  }

  void measure() {
    measurement measured(how_, [this] { return kernel_bytes(); });
    bool is_over = false;
    exchange(how_.active, [&](member& who) {
      if (!is_over) is_over = !measured.again(who.began);
      return !is_over;
    });
    measured.report(2 * how_.size);
  }

  // Round trips on the first `active`, one after the other on each, for as
  // long as `again` says so when one has ended.
  void exchange(std::size_t active, const std::function<bool(member&)>& again) {
    auto who = all_.begin();
    for (std::size_t i = 0; i < active; ++i) ask(*who++, again);
    io_.restart();
    io_.run();
  }

  void ask(member& who, const std::function<bool(member&)>& again) {
    who.began = ticks();
    asio::async_write(who.socket, asio::buffer(who.bytes), then([this, &who, &again] {
                        asio::async_read(who.socket, asio::buffer(who.bytes),
                                         then([this, &who, &again] {
                                           if (again(who)) ask(who, again);
                                         }));
                      }));
  }

  [[nodiscard]] std::optional<std::uint64_t> kernel_bytes() {
    std::uint64_t sum = 0;
    auto who = all_.begin();
    for (std::size_t i = 0; i < how_.active; ++i, ++who) {
      const auto bytes = carried_by_kernel(who->socket);
      if (!bytes) return std::nullopt;
      sum += *bytes;
    }
    return sum;
  }

  const task& how_;
  idle_watch idle_;
  asio::io_context io_{1};
  asio::ip::tcp::endpoint place_;
  typename Over::acceptor acceptor_;
  std::list<member> all_;
};

template <class Over>
void work_many(const task& how) {
  async_crowd<Over> all(how);
  how.is_server ? all.serve() : all.ask();
}

}  // namespace bench
