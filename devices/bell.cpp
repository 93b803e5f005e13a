// SPDX-License-Identifier: Apache-2.0
#include <devices/bell.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace dibs {

unique_fd move_high(unique_fd fd) noexcept {
  rlimit limit{};
  const bool is_known = ::getrlimit(RLIMIT_NOFILE, &limit) == 0;
  for (const rlim_t floor : {rlim_t{1024}, rlim_t{512}, rlim_t{128}}) {
    if (is_known && floor + 64 > limit.rlim_cur) continue;
    unique_fd high(::fcntl(fd.get(), F_DUPFD_CLOEXEC, static_cast<int>(floor)));
    if (high.is_open()) return high;
  }
  return fd;
}

bool open_bell::is_intact() const noexcept {
  struct stat status {};
  return fd.is_open() && ::fstat(fd.get(), &status) == 0 && S_ISFIFO(status.st_mode) &&
         status.st_ino == inode && status.st_nlink > 0;
}

void open_bell::forget() noexcept {
  struct stat status {};
  const bool is_ours = fd.is_open() && ::fstat(fd.get(), &status) == 0 &&
                       S_ISFIFO(status.st_mode) && status.st_ino == inode;
  if (!is_ours) static_cast<void>(fd.release());
  fd.reset();
  of = 0;
}

void held_bell::ring() noexcept {
  static_cast<void>(!::write(place_ != nullptr ? place_->fd.get() : own_.get(), "", 1));
}

held_bell open_bells::hold(std::uint64_t of, const char* path) noexcept {
  open_bell& place = places_[(of >> 16 ^ of >> 48) % count];
  const bool is_free = !place.is_held.exchange(true, std::memory_order_acquire);
  if (is_free && place.of == of && place.is_intact()) return held_bell(place);
  // Read and write: a waiter that dies between open and write would cost us a
  // SIGPIPE if we were not a reader ourselves.
  unique_fd fd(::open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!is_free) return {of, std::move(fd)};
  place.forget();
  struct stat status {};
  if (fd.is_open() && ::fstat(fd.get(), &status) == 0) {
    place.fd = move_high(std::move(fd));
    place.inode = status.st_ino;
    place.of = of;
    return held_bell(place);
  }
  place.is_held.store(false, std::memory_order_release);
  return {};
}

}  // namespace dibs
