// SPDX-License-Identifier: Apache-2.0
#include <devices/bell.hpp>

#include <support/scratch_fabric.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <string>

using dibs::held_bell;
using dibs::open_bells;
using support::scratch_fabric;

namespace {

constexpr std::uint64_t some_queue = 0x3'0000'0001'0000;

// The waiter's end of a bell.
struct sleeper {
  explicit sleeper(std::string at) : path(std::move(at)) {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    fd = dibs::unique_fd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    REQUIRE(fd.is_open());
  }
  [[nodiscard]] bool was_rung() const {
    char byte = 0;
    return ::read(fd.get(), &byte, 1) == 1;
  }

  std::string path;
  dibs::unique_fd fd;
};

// What the process has open, but for the descriptor that is looked with.
std::size_t open_count() {
  const auto all = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

}  // namespace

TEST_CASE("bell: one that was rung stays open, out of the way") {
  const scratch_fabric scratch;
  const sleeper waits(scratch.directory() + "/bell");
  open_bells bells;
  held_bell(bells.hold(some_queue, waits.path.c_str())).ring();
  CHECK(waits.was_rung());
  const std::size_t count = open_count();
  for (int i = 0; i < 3; ++i) {
    held_bell held = bells.hold(some_queue, waits.path.c_str());
    REQUIRE(held.is_open());
    CHECK(held.of() == some_queue);
    held.ring();
    CHECK(waits.was_rung());
    CHECK(open_count() == count);
  }
  const int next = ::dup(0);
  CHECK(next < 128);
  ::close(next);
}

TEST_CASE("bell: one that was removed is not rung any more, and a new one of that name is") {
  const scratch_fabric scratch;
  const sleeper old(scratch.directory() + "/bell");
  open_bells bells;
  REQUIRE(bells.hold(some_queue, old.path.c_str()).is_open());
  REQUIRE(::unlink(old.path.c_str()) == 0);
  CHECK_FALSE(bells.hold(some_queue, old.path.c_str()).is_open());
  const sleeper fresh(old.path);
  held_bell held = bells.hold(some_queue, fresh.path.c_str());
  REQUIRE(held.is_open());
  held.ring();
  CHECK(fresh.was_rung());
  CHECK_FALSE(old.was_rung());
}

TEST_CASE("bell: a number that the program closed and used again is left alone") {
  const scratch_fabric scratch;
  const sleeper waits(scratch.directory() + "/bell");
  const sleeper stranger(scratch.directory() + "/stranger");
  open_bells bells;
  REQUIRE(bells.hold(some_queue, waits.path.c_str()).is_open());
  int ours = -1;
  for (int fd = 3; fd < 4096; ++fd) {
    struct stat status {};
    if (::fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) && fd != waits.fd.get() &&
        fd != stranger.fd.get()) {
      ours = fd;
    }
  }
  REQUIRE(ours > 0);
  REQUIRE(::dup2(stranger.fd.get(), ours) == ours);
  held_bell(bells.hold(some_queue, waits.path.c_str())).ring();
  CHECK(waits.was_rung());
  CHECK_FALSE(stranger.was_rung());
  CHECK(::fcntl(ours, F_GETFD) >= 0);  // still the program's
  ::close(ours);
}

TEST_CASE("bell: two at once of one place ring both") {
  const scratch_fabric scratch;
  const sleeper one(scratch.directory() + "/one");
  const sleeper other(scratch.directory() + "/other");
  open_bells bells;
  held_bell first = bells.hold(some_queue, one.path.c_str());
  held_bell second = bells.hold(some_queue + (16 << 16), other.path.c_str());
  held_bell third = bells.hold(some_queue, one.path.c_str());
  first.ring();
  CHECK(one.was_rung());
  second.ring();
  CHECK(other.was_rung());
  third.ring();
  CHECK(one.was_rung());
  first = held_bell();
  CHECK(bells.hold(some_queue + (16 << 16), other.path.c_str()).is_open());
}
