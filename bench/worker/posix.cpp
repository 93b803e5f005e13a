// SPDX-License-Identifier: Apache-2.0
// A program that talks through plain POSIX stream sockets, over TCP or in the
// UNIX domain. It knows nothing of dibsock, and is the same program with the
// preload library and without.
#include <worker/loops.hpp>
#include <worker/tcp_bytes.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

namespace bench {
namespace {

// The result of a call that says -1 when it failed.
template <class T>
T check(T result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::system_category(), what);
  return result;
}

class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int fd) noexcept : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  descriptor& operator=(descriptor&&) = delete;
  ~descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_ = -1;
};

class stream {
 public:
  // A connected socket.
  stream(descriptor socket, const task& how)
      : is_tcp_(how.family == "tcp"), socket_(std::move(socket)), set_(make_set(how)) {
    if (is_tcp_) {
      const int on = 1;
      check(::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
    }
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

// Where a server listens: 127.0.0.1 and a port, or an abstract name.
struct place {
  sockaddr_storage bytes{};
  socklen_t size = 0;

  explicit place(const task& how) {
    if (how.family == "tcp") {
      auto& inet = reinterpret_cast<sockaddr_in&>(bytes);
      inet.sin_family = AF_INET;
      inet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      inet.sin_port = htons(static_cast<std::uint16_t>(std::stoul("0" + how.address)));
      size = sizeof inet;
    } else {
      auto& local = reinterpret_cast<sockaddr_un&>(bytes);
      local.sun_family = AF_UNIX;
      const std::string name =
          how.is_server ? "dibsock-bench-" + std::to_string(::getpid()) : how.address;
      name.copy(local.sun_path + 1, sizeof local.sun_path - 2);
      size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    }
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&bytes); }
  [[nodiscard]] std::string name() const {
    if (bytes.ss_family == AF_UNIX) {
      const auto& local = reinterpret_cast<const sockaddr_un&>(bytes);
      return {local.sun_path + 1, size - offsetof(sockaddr_un, sun_path) - 1};
    }
    return std::to_string(ntohs(reinterpret_cast<const sockaddr_in&>(bytes).sin_port));
  }
};

class side {
 public:
  explicit side(const task& how)
      : how_(how), place_(how), listener_(how.is_server ? make_socket() : -1) {
    if (!how.is_server) return;
    check(::bind(listener_.get(), place_.get(), place_.size), "bind");
    check(::listen(listener_.get(), 128), "listen");
    auto* bound = reinterpret_cast<sockaddr*>(&place_.bytes);
    check(::getsockname(listener_.get(), bound, &place_.size), "getsockname");
    say("ready", place_.name());
  }

  stream accept() {
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    return {descriptor(check(fd, "accept")), how_};
  }

  stream connect() {
    descriptor socket(make_socket());
    check(::connect(socket.get(), place_.get(), place_.size), "connect");
    return {std::move(socket), how_};
  }

 private:
  [[nodiscard]] int make_socket() const {
    const int family = how_.family == "tcp" ? AF_INET : AF_UNIX;
    return check(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  }

  task how_;
  place place_;
  descriptor listener_;
};

}  // namespace
}  // namespace bench

int main(int count, char** values) {
  return bench::run_worker(count, values, bench::work<bench::side>);
}
