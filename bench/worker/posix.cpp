// SPDX-License-Identifier: Apache-2.0
// A program that talks through plain POSIX stream sockets, over TCP or in the
// UNIX domain. It knows nothing of dibsock, and is the same program with the
// preload library and without.
#include <worker/loops.hpp>
#include <worker/posix_many.hpp>
#include <worker/sockets.hpp>
#include <worker/tcp_bytes.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

namespace bench {
namespace {

class stream {
 public:
  // A connected socket.
  stream(descriptor socket, const task& how)
      : is_tcp_(how.family == "tcp"), socket_(std::move(socket)), set_(make_set(how)) {
    if (!has_set()) return;
    check(::fcntl(socket_.get(), F_SETFL, O_NONBLOCK), "O_NONBLOCK");
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    check(::epoll_ctl(set_.get(), EPOLL_CTL_ADD, socket_.get(), &wanted), "epoll_ctl");
  }

  std::size_t read(std::span<std::byte> to) {
    for (;;) {
      if (has_set()) {
        epoll_event event{};
        if (::epoll_wait(set_.get(), &event, 1, -1) < 1) continue;
      }
      const ssize_t got = ::recv(socket_.get(), to.data(), to.size(), 0);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EAGAIN && errno != EINTR) check(got, "recv");
    }
  }

  void write(std::span<const std::byte> from) {
    while (!from.empty()) {
      const ssize_t sent = ::send(socket_.get(), from.data(), from.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        from = from.subspan(static_cast<std::size_t>(sent));
      } else if (errno == EAGAIN) {
        pollfd room{socket_.get(), POLLOUT, 0};
        ::poll(&room, 1, -1);
      } else if (errno != EINTR) {
        check(sent, "send");
      }
    }
  }

  void shut_down() { check(::shutdown(socket_.get(), SHUT_WR), "shutdown"); }

  [[nodiscard]] std::optional<std::uint64_t> kernel_bytes() const noexcept {
    return is_tcp_ ? tcp_bytes(socket_.get()) : std::nullopt;
  }

 private:
  static int make_set(const task& how) {
    return how.is_async ? check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1") : -1;
  }
  [[nodiscard]] bool has_set() const noexcept { return set_.get() >= 0; }

  bool is_tcp_;
  descriptor socket_;
  descriptor set_;
};

class side {
 public:
  explicit side(const task& how) : how_(how), sockets_(how) {}

  stream accept() { return {sockets_.accept(), how_}; }
  stream connect() { return {sockets_.connect(), how_}; }

 private:
  const task& how_;
  sockets sockets_;
};

}  // namespace
}  // namespace bench

int main(int count, char** values) {
  return bench::run_worker(count, values, [](const bench::task& how) {
    const bool is_many = how.what == bench::kind::many || how.what == bench::kind::idle;
    is_many ? bench::work_many(how) : bench::work<bench::side>(how);
  });
}
