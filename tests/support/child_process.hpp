// SPDX-License-Identifier: Apache-2.0
#pragma once
// A function that runs in a forked child, which can be killed.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <stdexcept>

namespace support {

class child_process {
 public:
  // `body` returns the exit status. No destructor of the parent's objects runs
  // in the child.
  template <class Body>
  explicit child_process(Body body) : pid_(::fork()) {
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ != 0) return;
    int status = 99;
    try {
      status = body();
    } catch (const std::exception& failure) {
      std::fprintf(stderr, "in the child: %s\n", failure.what());
    }
    ::_exit(status);
  }
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;
  ~child_process() { kill(); }

  [[nodiscard]] pid_t pid() const { return pid_; }

  // Its exit status; minus the signal's number if one ended it.
  int wait() {
    int status = 0;
    while (pid_ > 0 && ::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // kill -9, and waits until it is gone.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }

 private:
  pid_t pid_;
};

// A place where parent and child wait for each other.
class meeting_point {
 public:
  meeting_point() {
    if (::pipe(to_child_) != 0 || ::pipe(to_parent_) != 0) throw std::runtime_error("pipe failed");
  }
  meeting_point(const meeting_point&) = delete;
  meeting_point& operator=(const meeting_point&) = delete;
  ~meeting_point() {
    for (const int fd : {to_child_[0], to_child_[1], to_parent_[0], to_parent_[1]}) ::close(fd);
  }

  void tell_child() { tell(to_child_[1]); }
  void tell_parent() { tell(to_parent_[1]); }
  void await_parent() { await(to_child_[0]); }
  void await_child() { await(to_parent_[0]); }

 private:
  static void tell(int fd) {
    while (::write(fd, "", 1) < 0 && errno == EINTR) {
    }
  }
  static void await(int fd) {
    char byte = 0;
    while (::read(fd, &byte, 1) < 0 && errno == EINTR) {
    }
  }

  int to_child_[2];
  int to_parent_[2];
};

}  // namespace support
