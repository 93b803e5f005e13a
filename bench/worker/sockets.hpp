// SPDX-License-Identifier: Apache-2.0
#pragma once
// Plain POSIX stream sockets, over TCP or in the UNIX domain: where they
// listen, and how they connect.

#include <worker/task.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

namespace bench {

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
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_ = -1;
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

class sockets {
 public:
  explicit sockets(const task& how)
      : is_tcp_(how.family == "tcp"),
        place_(how),
        listener_(how.is_server ? make_socket() : descriptor()) {
    if (!how.is_server) return;
    check(::bind(listener_.get(), place_.get(), place_.size), "bind");
    check(::listen(listener_.get(), 1024), "listen");
    auto* bound = reinterpret_cast<sockaddr*>(&place_.bytes);
    check(::getsockname(listener_.get(), bound, &place_.size), "getsockname");
    say("ready", place_.name());
  }

  [[nodiscard]] descriptor accept() const {
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    return without_delay(descriptor(check(fd, "accept")));
  }

  [[nodiscard]] descriptor connect() const {
    descriptor made = make_socket();
    check(::connect(made.get(), place_.get(), place_.size), "connect");
    return without_delay(std::move(made));
  }

 private:
  [[nodiscard]] descriptor make_socket() const {
    const int family = is_tcp_ ? AF_INET : AF_UNIX;
    return descriptor(check(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  }
  [[nodiscard]] descriptor without_delay(descriptor made) const {
    const int on = 1;
    if (is_tcp_) {
      check(::setsockopt(made.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
    }
    return made;
  }

  bool is_tcp_;
  place place_;
  descriptor listener_;
};

}  // namespace bench
