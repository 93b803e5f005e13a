// SPDX-License-Identifier: Apache-2.0
#include "books.hpp"

#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/tcp.h>

#include <cstring>
#include <ctime>

namespace oracle {
namespace {

constexpr int state_established = 1;
constexpr int state_syn_sent = 2;
constexpr int state_fin_wait_1 = 4;
constexpr int state_fin_wait_2 = 5;
constexpr int state_close = 7;
constexpr int state_last_ack = 9;
constexpr int state_closing = 11;

// A window that was closed is asked for again after 200 ms.
constexpr double patience = 0.6;

bool ask(int fd, tcp_info& info) {
  std::memset(&info, 0, sizeof info);
  socklen_t size = sizeof info;
  // By number: the library's answer would count both lanes.
  return ::syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0;
}

double seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

int books::thing_of(int fd, fd_kind wanted) const {
  return kind_of(fd) == wanted ? mine().things[static_cast<std::size_t>(fd)] : -1;
}

void books::set_slot(std::int32_t slot, int fd) {
  if (slot >= 0 && slot < static_cast<std::int32_t>(slot_count)) {
    mine().slots[static_cast<std::size_t>(slot)] = fd;
  }
}

void books::opened(int fd, fd_kind kind, int thing) {
  if (fd < 0 || fd >= static_cast<int>(max_fds)) return;
  const auto at = static_cast<std::size_t>(fd);
  release(mine(), at);
  mine().kinds[at] = kind;
  mine().things[at] = static_cast<std::int16_t>(thing);
  if (thing < 0) return;
  const auto index = static_cast<std::size_t>(thing);
  if (kind == fd_kind::stream) ++in_.ends[index].holders;
  if (kind == fd_kind::listener) ++in_.listeners[index].holders;
}

void books::closed(int fd) {
  if (fd >= 0 && fd < static_cast<int>(max_fds)) release(mine(), static_cast<std::size_t>(fd));
}

void books::release(process_book& of, std::size_t fd) {
  const fd_kind kind = of.kinds[fd];
  const auto thing = static_cast<std::size_t>(of.things[fd]);
  of.kinds[fd] = fd_kind::none;
  if (kind == fd_kind::stream && --in_.ends[thing].holders == 0) end_gone(thing);
  if (kind != fd_kind::listener || --in_.listeners[thing].holders != 0) return;
  // The kernel resets what nobody accepted.
  listener_book& at = in_.listeners[thing];
  for (; at.accepted < at.connected; ++at.accepted) {
    end_gone(peer_of(static_cast<std::size_t>(at.queue[at.accepted])));
  }
}

void books::end_gone(std::size_t end) {
  end_book& of = in_.ends[end];
  end_book& peer = in_.ends[peer_of(end)];
  of.is_gone = true;
  // A writer to a DMB asks once in a millisecond whether its peer lives.
  if (of.is_haunted) ::usleep(1500);
  const bool has_unread = peer.written.load() > of.read.load();
  if ((has_unread || of.resets) && !(of.shut_write && peer.shut_write)) {
    peer.expects_reset = true;
    // A reset discards them, but only if they still wait for a window: one large
    // segment that was read in part keeps it closed, or does not, as it happens.
    if (of.unsent.load() > 0) ++in_.stuck;
  }
}

void books::forked(std::size_t child) {
  process_book& copy = in_.processes[child];
  copy.slots = mine().slots;
  copy.kinds = mine().kinds;
  copy.things = mine().things;
  for (std::size_t fd = 0; fd < max_fds; ++fd) {
    const auto thing = static_cast<std::size_t>(copy.things[fd]);
    if (copy.kinds[fd] == fd_kind::stream) ++in_.ends[thing].holders;
    if (copy.kinds[fd] == fd_kind::listener) ++in_.listeners[thing].holders;
    // A set that parent and child both use is not followed by the library.
    if (copy.kinds[fd] == fd_kind::epoll) copy.kinds[fd] = fd_kind::other;
  }
}

void books::lent() {
  for (int fd = 0; fd < static_cast<int>(max_fds); ++fd) {
    const int end = end_of(fd);
    if (end >= 0 && unread(end) > 0) in_.ends[static_cast<std::size_t>(end)].is_haunted = true;
  }
}

void books::died(std::size_t process, bool was_killed) {
  process_book& gone = in_.processes[process];
  for (std::size_t fd = 0; fd < max_fds; ++fd) {
    if (was_killed && gone.kinds[fd] == fd_kind::stream) {
      in_.ends[static_cast<std::size_t>(gone.things[fd])].is_haunted = true;
    }
    release(gone, fd);
  }
  in_.processes[process].is_alive.store(0);
  for (std::size_t who = 0; who < actor_count; ++who) {
    if (who == driver || process_of(who) != process) continue;
    in_.actors[who].store(0);
    for (std::uint32_t i = 0; i < in_.step_count; ++i) {
      entry& of = in_.log[i];
      if (in_.steps[i].who == who && of.at.load() == status::running) {
        finish_entry(of, status::killed);
      }
    }
  }
}

bool books::may_die() const {
  constexpr std::int32_t long_enough = 6;
  for (int fd = 0; fd < static_cast<int>(max_fds); ++fd) {
    const int end = end_of(fd);
    if (end < 0) continue;
    const auto at = static_cast<std::size_t>(end);
    if (unread(end) > 0 || in_.ends[at].calls < long_enough ||
        in_.ends[peer_of(at)].calls < long_enough) {
      return false;
    }
  }
  return true;
}

bool books::may_close(int end) const {
  const auto at = static_cast<std::size_t>(end);
  return unread(static_cast<int>(peer_of(at))) <= determined_bytes &&
         !(in_.ends[at].is_haunted && unread(end) > 0);
}

bool books::may_leave() const {
  for (int fd = 0; fd < static_cast<int>(max_fds); ++fd) {
    if (end_of(fd) >= 0 && !may_close(end_of(fd))) return false;
  }
  return true;
}

int books::connected(int listener) {
  listener_book& at = in_.listeners[static_cast<std::size_t>(listener)];
  if (at.connected >= at.queue.size() || in_.end_count + 2 > max_ends) return -1;
  const auto client = static_cast<int>(in_.end_count);
  in_.end_count += 2;
  for (const int end : {client, client + 1}) {
    in_.ends[static_cast<std::size_t>(end)].is_used = true;
    in_.ends[static_cast<std::size_t>(end)].low_mark = 1;
  }
  at.queue[at.connected++] = static_cast<std::int16_t>(client);
  return client;
}

int books::accepted(int listener) {
  listener_book& at = in_.listeners[static_cast<std::size_t>(listener)];
  if (at.accepted >= at.connected) return -1;
  return static_cast<int>(peer_of(static_cast<std::size_t>(at.queue[at.accepted++])));
}

std::uint64_t books::unread(int end) const {
  const auto at = static_cast<std::size_t>(end);
  return in_.ends[peer_of(at)].written.load() - in_.ends[at].read.load();
}

bool books::is_over(int end) const {
  const end_book& of = in_.ends[static_cast<std::size_t>(end)];
  const end_book& peer = in_.ends[peer_of(static_cast<std::size_t>(end))];
  return peer.is_gone || peer.shut_write || of.shut_read;
}

bool books::has_arrived(int fd, std::size_t end) const {
  const end_book& of = in_.ends[end];
  const end_book& peer = in_.ends[peer_of(end)];
  tcp_info info;
  if (!ask(fd, info)) return true;
  const int state = info.tcpi_state;
  if (state == state_syn_sent) return false;
  if (state == state_close) return true;
  if (of.expects_reset) return false;
  if (peer.is_gone || peer.shut_write) {
    return state != state_established && state != state_fin_wait_1 && state != state_fin_wait_2;
  }
  return info.tcpi_bytes_received >= peer.sent.load();
}

int books::settle() {
  int late = 0;
  std::uint32_t done = 0;
  for (int fd = 0; fd < static_cast<int>(max_fds); ++fd) {
    const int end = end_of(fd);
    if (end < 0 || (done & 1u << end) != 0) continue;
    done |= 1u << end;
    if (unread(end) > determined_bytes) continue;
    const double since = seconds();
    while (!has_arrived(fd, static_cast<std::size_t>(end))) {
      if (seconds() - since > patience) {
        ++in_.unsettled;
        const end_book& peer = in_.ends[peer_of(static_cast<std::size_t>(end))];
        const bool is_end = peer.is_gone || peer.shut_write ||
                            in_.ends[static_cast<std::size_t>(end)].expects_reset;
        if (!is_end) ++in_.stuck;
        ++late;
        break;
      }
      ::sched_yield();
    }
  }
  return late;
}

void books::await_fin_acks() {
  const double since = seconds();
  for (int fd = 0; fd < static_cast<int>(max_fds); ++fd) {
    const int end = end_of(fd);
    if (end < 0 || !in_.ends[static_cast<std::size_t>(end)].shut_write ||
        unread(static_cast<int>(peer_of(static_cast<std::size_t>(end)))) > determined_bytes) {
      continue;
    }
    tcp_info info;
    while (ask(fd, info) && seconds() - since < patience &&
           (info.tcpi_state == state_fin_wait_1 || info.tcpi_state == state_last_ack ||
            info.tcpi_state == state_closing)) {
      ::sched_yield();
    }
  }
}

void books::publish() {
  std::uint32_t done = 0;
  for (int fd = 0; fd < static_cast<int>(max_fds); ++fd) {
    const int end = end_of(fd);
    if (end < 0 || (done & 1u << end) != 0) continue;
    done |= 1u << end;
    tcp_info info;
    if (!ask(fd, info)) continue;
    end_book& of = in_.ends[static_cast<std::size_t>(end)];
    const std::uint64_t sent =
        info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
    if (sent > of.sent.load()) of.sent.store(sent);
    of.unsent.store(info.tcpi_notsent_bytes);
    const std::uint64_t written = of.written.load();
    if (written > sent && written - sent > of.most_saved.load()) {
      of.most_saved.store(written - sent);
    }
  }
}

}  // namespace oracle
