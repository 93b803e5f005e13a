// SPDX-License-Identifier: Apache-2.0
#pragma once
// One owned file descriptor.

#include <unistd.h>

#include <cerrno>

#include <utility>

namespace dibs {

class unique_fd {
 public:
  unique_fd() noexcept = default;
  explicit unique_fd(int fd) noexcept : fd_(fd) {}
  unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~unique_fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

  // Closes what is held and takes `fd` instead. errno is left alone.
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

inline void unique_fd::reset(int fd) noexcept {
  const int old = std::exchange(fd_, fd);
  if (old >= 0) {
    const int saved = errno;
    ::close(old);
    errno = saved;
  }
}

}  // namespace dibs
