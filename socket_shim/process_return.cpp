// SPDX-License-Identifier: Apache-2.0
// Connections that go back to the kernel's TCP: for options, for strangers, for
// the program that takes this one's place.
#include <socket_shim/process.hpp>

#include <socket_shim/epoll.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/single_threaded.h>
#include <unistd.h>

namespace shim {

void process::retire(int fd) noexcept {
  if (const pinned known = find_live(fd); known && is_self()) {
    known->link.stay_on_tcp(smcd::decline_code::option_unsupported);
    sync_members(*known);
  }
}

bool process::bring_back(int fd, after_leaving then) noexcept {
  const dibs::cancel_shield not_cancelled;
  endpoint* found = table_.find(fd);
  if (found == nullptr || found->kind != endpoint::kind_of::stream) return true;
  found->pins.fetch_add(1, std::memory_order_seq_cst);
  const pinned known(*found);
  if (table_.find(fd) != found || !found->link.is_open()) return true;
  const int saved = errno;
  found->was_shared.store(true, std::memory_order_relaxed);  // whoever gets it, from now on
  tcp_socket tcp(fd);
  const bool is_back = found->link.give_to_kernel(tcp, then);
  sync_members(*found);
  errno = saved;
  return is_back;
}

// Bytes that TCP would give in another order are given to nobody.
void process::give_to_kernel(int fd, after_leaving then) noexcept {
  if (bring_back(fd, then)) return;
  const int saved = errno;
  log("fd %d: cannot go back to TCP with unread bytes; connection reset", fd);
  const sockaddr nowhere{AF_UNSPEC, {}};
  static_cast<void>(real.connect(fd, &nowhere, socklen_t{sizeof nowhere}));
  errno = saved;
}

bool process::is_inheritable(int fd) noexcept {
  return (real.fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
}

void process::retire_inheritable(inheritance* passed) noexcept {
  const int saved = errno;
  const bool may_pass =
      passed != nullptr && trusts_numbers() && passed->is_possible() && !has_inheritable_set();
  for (int fd = table_.next(0); fd >= 0; fd = table_.next(static_cast<unsigned>(fd) + 1)) {
    endpoint* at = table_.find(fd);
    if (at == nullptr || at->kind != endpoint::kind_of::stream || at->link.is_plain() ||
        !is_inheritable(fd)) {
      continue;
    }
    // stdio holds the first three numbers.
    const bool is_passed =
        may_pass && fd > STDERR_FILENO && at->descriptors == 1 && at->link.may_be_resumed();
    // An orphan too: this child of fork needs no stack of its own for that.
    if (passed != nullptr && !at->link.is_shared()) {
      give_to_kernel(fd, after_leaving::drains);
      std::uint64_t cookie = 0;
      if (is_passed && cookie_of(fd, cookie)) passed->add(fd, at->link.role(), cookie);
    } else if (!bring_back(fd, after_leaving::drains)) {
      // Somebody goes on with it here; then the other program does without.
      log("fd %d: cannot go back to TCP with unread bytes; not inherited", fd);
      real.fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
  }
  errno = saved;
}

// The new program knows nothing of its members, and the kernel tells of TCP alone.
bool process::has_inheritable_set() noexcept {
  for (int fd = table_.next(0); fd >= 0; fd = table_.next(static_cast<unsigned>(fd) + 1)) {
    const endpoint* at = table_.find(fd);
    if (at != nullptr && at->kind == endpoint::kind_of::epoll && is_inheritable(fd)) return true;
  }
  return false;
}

void process::distrust_numbers() noexcept {
  if (is_distrustful_.exchange(true) || !is_self()) return;
  for_each_stream([](endpoint& at) noexcept {
    at.link.stay_on_tcp(smcd::decline_code::option_unsupported);
    sync_members(at);
  });
}

void process::before_clone(std::uint64_t flags) noexcept {
  const bool shares_memory = (flags & CLONE_VM) != 0;
  const bool shares_table = (flags & CLONE_FILES) != 0;
  const bool is_thread = (flags & CLONE_THREAD) != 0;
  // The maker of a vfork child waits until that runs another program.
  if (shares_memory && !is_thread && !shares_table && (flags & CLONE_VFORK) != 0) return;
  // libc does not count threads that others make.
  if (shares_memory) __libc_single_threaded = 0;
  if (shares_memory != shares_table || (shares_memory && !is_thread)) distrust_numbers();
}

bool process::is_behind(const endpoint& of, int fd) noexcept {
  if (of.link.is_young()) return true;  // its bytes take the kernel's way anyhow
  const int saved = errno;
  std::uint64_t cookie = 0;
  const bool is_known = cookie_of(fd, cookie);
  errno = saved;
  return is_known && cookie == of.link.state().socket_cookie;
}

// ---- exec ------------------------------------------------------------------

void process::before_exec(inheritance& passed) noexcept {
  if (live_.load(std::memory_order_acquire) == nullptr) return;
  // A child of vfork too: it acts for the thread that waits for it.
  retire_inheritable(is_self() ? &passed : nullptr);
  if (!is_self()) return;
  settle_sets();
  for_each_stream([](endpoint& at) noexcept { at.link.unshare(); });
}

void process::after_failed_exec() noexcept {
  if (live_.load(std::memory_order_acquire) == nullptr || !is_self()) return;
  for_each_stream([](endpoint& at) noexcept { at.link.share(); });
}

}  // namespace shim
