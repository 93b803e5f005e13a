// SPDX-License-Identifier: Apache-2.0
#pragma once
// The measuring loops once more, as chains of asynchronous operations: each
// handler starts the next one, in one thread that runs the io_context.

#include <worker/loops.hpp>
#include <worker/native.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/system/system_error.hpp>

#include <array>
#include <optional>
#include <utility>

namespace bench {

// A handler that goes on only if all went well.
template <class Next>
auto then(Next next) {
  return [next](error_code code, auto...) {
    if (code) throw boost::system::system_error(code);
    next();
  };
}
// The same, but the end of the stream is an end like any other.
template <class Next, class End>
auto then_or_end(Next next, End end) {
  return [next, end](error_code code, std::size_t) {
    if (code && code != asio::error::eof) throw boost::system::system_error(code);
    code ? end() : next();
  };
}

// One end. Every step throws what went wrong out of run().
template <class Over>
class async_end {
 public:
  explicit async_end(const task& how)
      : how_(how), place_(place_of(how)), acceptor_(io_), peer_(io_), bytes_(how.size) {}

  void serve() {
    listen(acceptor_, place_);
    acceptor_.async_accept(peer_, then([this] {
                             cpu_ = {};
                             accepted();
                           }));
    io_.run();
    say("cpu", cpu_.share());
  }

  void ask() {
    measured_.emplace(how_,
                      [this] { return is_short() ? std::nullopt : carried_by_kernel(peer_); });
    if (is_short()) {
      call();
    } else {
      peer_.async_connect(place_, then([this] {
                            peer_.set_option(asio::ip::tcp::no_delay(true));
                            how_.what == kind::ping ? ping() : flood();
                          }));
    }
    io_.run();
  }

 private:
  // ---- client ----------------------------------------------------------------

  void ping() {
    if (!measured_->again()) return measured_->report(2 * how_.size);
    asio::async_write(peer_, asio::buffer(bytes_), then([this] {
                        asio::async_read(peer_, asio::buffer(bytes_), then([this] { ping(); }));
                      }));
  }

  void flood() {
    const std::size_t messages = messages_per_round(how_);
    if (left_ == 0 && !measured_->again()) {
      peer_.shutdown(asio::socket_base::shutdown_send);
      return asio::async_read(peer_, asio::buffer(one_), then([this, messages] {
                                measured_->stop();
                                measured_->report(how_.size * messages, messages);
                              }));
    }
    left_ = (left_ == 0 ? messages : left_) - 1;
    asio::async_write(peer_, asio::buffer(bytes_), then([this] { flood(); }));
  }

  [[nodiscard]] bool is_short() const noexcept {
    return how_.what == kind::connect || how_.what == kind::open;
  }

  void call() {
    const bool is_last = !measured_->again();
    bytes_[0] = is_last ? last_call : std::byte{0};
    peer_.async_connect(place_, then([this, is_last] {
                          peer_.set_option(asio::ip::tcp::no_delay(true));
                          if (how_.what == kind::open && !is_last) {
                            peer_.close();
                            return call();
                          }
                          asio::async_write(
                              peer_, asio::buffer(bytes_), then([this, is_last] {
                                asio::async_read(peer_, asio::buffer(bytes_), then([this, is_last] {
                                                   peer_.close();
                                                   is_last ? measured_->report(0) : call();
                                                 }));
                              }));
                        }));
  }

  // ---- server ----------------------------------------------------------------

  void accepted() {
    peer_.set_option(asio::ip::tcp::no_delay(true));
    switch (how_.what) {
      case kind::ping: return echo();
      case kind::stream: return drain();
      default: return answer();
    }
  }

  void echo() {
    asio::async_read(
        peer_, asio::buffer(bytes_),
        then_or_end(
            [this] { asio::async_write(peer_, asio::buffer(bytes_), then([this] { echo(); })); },
            [] {}));
  }

  void drain() {
    asio::async_read(
        peer_, asio::buffer(bytes_),
        then_or_end([this] { drain(); },
                    [this] { asio::async_write(peer_, asio::buffer(one_), then([] {})); }));
  }

  void answer() {
    bytes_[0] = std::byte{0};
    asio::async_read(peer_, asio::buffer(bytes_),
                     then_or_end([this] { reply(); }, [this] { hang_up(); }));
  }

  void reply() {
    asio::async_write(peer_, asio::buffer(bytes_), then([this] {
                        asio::async_read(peer_, asio::buffer(one_),
                                         then_or_end([] {}, [this] { hang_up(); }));
                      }));
  }

  void hang_up() {
    peer_.close();
    if (bytes_[0] == last_call) return;
    acceptor_.async_accept(peer_, then([this] { accepted(); }));
  }

  const task& how_;
  asio::io_context io_{1};
  asio::ip::tcp::endpoint place_;
  typename Over::acceptor acceptor_;
  typename Over::socket peer_;
  message bytes_;
  std::array<std::byte, 1> one_{};
  std::size_t left_ = 0;  // messages of this round
  std::optional<measurement> measured_;
  cpu_watch cpu_;
};

template <class Over>
void work_async(const task& how) {
  async_end<Over> end(how);
  how.is_server ? end.serve() : end.ask();
}

}  // namespace bench
