// SPDX-License-Identifier: Apache-2.0
// select as poll. Sets are as long as `count` says: shorter than an fd_set where
// a program made them so, or longer.
#include <socket_shim/poll.hpp>

#include <socket_shim/call_memory.hpp>
#include <socket_shim/memory.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace shim {
namespace {

constexpr int bits_per_word = 8 * sizeof(unsigned long);

class bit_set {
 public:
  explicit bit_set(fd_set* of) noexcept : words_(reinterpret_cast<unsigned long*>(of)) {}
  explicit bit_set(const fd_set* of) noexcept : bit_set(const_cast<fd_set*>(of)) {}

  [[nodiscard]] static std::size_t size(int count) noexcept {
    return static_cast<std::size_t>((count + bits_per_word - 1) / bits_per_word) *
           sizeof(unsigned long);
  }
  [[nodiscard]] bool is_sound(int count) const noexcept {
    return words_ == nullptr || is_writable(words_, size(count));
  }
  [[nodiscard]] bool has(int fd) const noexcept {
    return words_ != nullptr && (words_[fd / bits_per_word] >> fd % bits_per_word & 1) != 0;
  }
  void clear(int count) noexcept {
    if (words_ != nullptr) std::memset(words_, 0, size(count));
  }
  void put(int fd) noexcept { words_[fd / bits_per_word] |= 1UL << fd % bits_per_word; }

 private:
  unsigned long* words_;
};

int fail(int code) noexcept {
  errno = code;
  return -1;
}

}  // namespace

bool concerns_us(int count, const fd_set* in, const fd_set* out, const fd_set* except) noexcept {
  constexpr int most = 1 << 20;
  const bit_set ins(in), outs(out), excepts(except);
  if (count <= 0 || count > most || !ins.is_sound(count) || !outs.is_sound(count) ||
      !excepts.is_sound(count)) {
    return false;
  }
  for (int fd = 0; fd < count; ++fd) {
    if (!ins.has(fd) && !outs.has(fd) && !excepts.has(fd)) continue;
    pollfd one{fd, 0, 0};
    if (concerns_us(&one, 1)) return true;
  }
  return false;
}

int select_streams(int count, fd_set* in, fd_set* out, fd_set* except, const deadline& until,
                   const sigset_t* mask) {
  bit_set ins(in), outs(out), excepts(except);
  nfds_t used = 0;
  for (int fd = 0; fd < count; ++fd) used += ins.has(fd) || outs.has(fd) || excepts.has(fd);
  call_memory<pollfd, FD_SETSIZE> memory(used);
  pollfd* const fds = memory.get();
  if (fds == nullptr) return fail(ENOMEM);
  used = 0;
  for (int fd = 0; fd < count; ++fd) {
    int events = 0;
    if (ins.has(fd)) events |= POLLIN;
    if (outs.has(fd)) events |= POLLOUT;
    if (excepts.has(fd)) events |= POLLPRI;
    if (events != 0) fds[used++] = {fd, static_cast<short>(events), 0};
  }
  if (poll_streams(fds, used, until, mask) < 0) return -1;
  for (nfds_t i = 0; i < used; ++i) {
    if ((fds[i].revents & POLLNVAL) != 0) return fail(EBADF);
  }
  ins.clear(count);
  outs.clear(count);
  excepts.clear(count);
  int bits = 0;
  for (nfds_t i = 0; i < used; ++i) {
    // As the kernel maps poll's events to select's sets.
    const auto put = [&](bit_set& to, short asked, short events) noexcept {
      if ((fds[i].events & asked) == 0 || (fds[i].revents & events) == 0) return;
      to.put(fds[i].fd);
      ++bits;
    };
    put(ins, POLLIN, POLLIN | POLLHUP | POLLERR);
    put(outs, POLLOUT, POLLOUT | POLLERR);
    put(excepts, POLLPRI, POLLPRI);
  }
  return bits;
}

}  // namespace shim
