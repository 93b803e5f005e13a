// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/poll.hpp>

#include <devices/ticks.hpp>
#include <socket_shim/call_memory.hpp>
#include <socket_shim/epoll.hpp>
#include <socket_shim/memory.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>
#include <socket_shim/tcp_socket.hpp>

#include <algorithm>
#include <array>

namespace shim {
namespace {

constexpr short input = POLLIN | POLLRDNORM;
constexpr short output = POLLOUT | POLLWRNORM;
constexpr short always = POLLERR | POLLHUP | POLLNVAL;

struct alignas(pinned) pinned_place {
  std::byte bytes[sizeof(pinned)];
};

// Can memory have something to tell? Before the handshake is over only bytes
// behind those that the kernel has, which tells of these; but not if they are
// fewer than a low mark.
bool is_in_memory(endpoint& of, int fd) noexcept {
  return of.link.is_established() || (of.link.has_dmb() && low_mark_of(of, fd) > 1);
}

// What memory says of a stream, for events that were asked for.
short events_in_memory(endpoint& of, int fd, short wanted) noexcept {
  if (!is_in_memory(of, fd)) return 0;
  short events = 0;
  tcp_socket tcp(fd);
  if ((wanted & input) != 0) {
    // The kernel does not know what stands in the DMB behind its own bytes.
    const std::size_t low_mark = low_mark_of(of, fd);
    const bool is_enough =
        low_mark <= 1 ? of.link.has_dmb_input(tcp) : of.link.readable_size(tcp) >= low_mark;
    if (is_enough) events = input;
  }
  if ((wanted & output) != 0 && of.link.sends_on() == smcd::lane::dmb) {
    if (of.link.has_room(tcp, dibs::ticks())) events = static_cast<short>(events | output);
  }
  return static_cast<short>(events & wanted);
}

// One call of poll over `count` descriptors.
class poll_call {
 public:
  poll_call(pollfd* fds, nfds_t count) noexcept
      : kernel_memory_(count + 1),
        stream_memory_(count),
        fds_(fds),
        count_(has_memory() ? count : 0),
        kernel_(kernel_memory_.get()),
        streams_(reinterpret_cast<pinned*>(stream_memory_.get())) {
    for (nfds_t i = 0; i < count_; ++i) new (&streams_[i]) pinned(self.find_live(fds[i].fd));
  }
  poll_call(const poll_call&) = delete;
  poll_call& operator=(const poll_call&) = delete;
  ~poll_call() {
    for (nfds_t i = 0; i < count_; ++i) streams_[i].~pinned();
  }

  // Else there is nothing to run.
  [[nodiscard]] bool has_memory() noexcept {
    return kernel_memory_.get() != nullptr && stream_memory_.get() != nullptr;
  }

  int run(const deadline& until, const sigset_t* mask) {
    const int saved = errno;
    sleeper* who = this_sleeper();
    for (;;) {
      const int ready = look();
      if (ready != 0) return finish(ready, saved);
      if (until.is_over()) return finish(0, saved);
      const auto found = [this]() noexcept { return hint(); };
      if (who != nullptr && has_memory_ &&
          who->spin().spin(longest_spin(), found, [this]() noexcept { return shares_cpu(); })) {
        continue;
      }
      if (who != nullptr && !who->prepare()) who = nullptr;
      int answer = 0;
      const bool is_sure = enter(who);
      if (!look_at_memory()) {
        deadline sleep_until = until;
        if (has_memory_) sleep_until = until.sooner_us(dibs::longest_sleep_us);
        if (!is_sure) sleep_until = until.sooner_us(unsure_us);
        if (waits_for_room_)
          sleep_until = sleep_until.sooner_us(smcd::config::own_patience_us + 100);
        prepare_kernel();
        asleep_ = who;
        answer = sleep_on(who, kernel_, count_, sleep_until, mask, {roll_back, this});
      }
      leave(who);
      if (answer < 0) return -1;
    }
  }

 private:
  // The live stream behind an entry, or null. Once it is plain, the kernel says
  // all there is to say.
  endpoint* stream(nfds_t i) const noexcept {
    return streams_[i] && !streams_[i]->link.is_plain() ? &*streams_[i] : nullptr;
  }

  // Descriptors as the kernel has to see them.
  void prepare_kernel() noexcept {
    for (nfds_t i = 0; i < count_; ++i) {
      kernel_[i] = fds_[i];
      kernel_[i].revents = 0;
      const endpoint* known = stream(i);
      if (known != nullptr && known->link.is_established() &&
          known->link.sends_on() == smcd::lane::dmb) {
        kernel_[i].events = static_cast<short>(kernel_[i].events & ~output);
      }
      if (known != nullptr && known->link.is_returning()) kernel_[i].events |= POLLOUT;
    }
  }

  bool look_at_memory() noexcept {
    bool any = false;
    has_memory_ = waits_for_room_ = false;
    for (nfds_t i = 0; i < count_; ++i) {
      fds_[i].revents = 0;
      endpoint* known = stream(i);
      if (known == nullptr) continue;
      fds_[i].revents = events_in_memory(*known, fds_[i].fd, fds_[i].events);
      any = any || fds_[i].revents != 0;
      if (!is_in_memory(*known, fds_[i].fd)) continue;
      has_memory_ = true;
      waits_for_room_ = waits_for_room_ || (fds_[i].events & output) != 0;
    }
    return any;
  }

  // Everything, memory and kernel; how many have something to tell.
  int look() noexcept {
    for (;;) {
      const int before = talking();
      const int ready = look_once();
      // What one entry took off the TCP lane was told of another one of the same
      // descriptor: the kernel has to be asked again.
      if (ready < 0 || talking() == before) return ready;
    }
  }

  // Entries that may be told of by the kernel for CLC bytes alone.
  int talking() const noexcept {
    int count = 0;
    for (nfds_t i = 0; i < count_; ++i) {
      const endpoint* known = stream(i);
      if (known != nullptr && !known->link.is_established() && !known->link.is_tcp_only()) ++count;
    }
    return count;
  }

  int look_once() noexcept {
    // A handshake that ends for one entry would do so unseen for another one of
    // the same descriptor.
    for (nfds_t i = 0; i < count_; ++i) {
      endpoint* known = stream(i);
      if (known == nullptr || known->link.is_established() || known->link.is_tcp_only()) continue;
      tcp_socket tcp(fds_[i].fd);
      known->link.advance(tcp);
      sync_members(*known);
    }
    static_cast<void>(look_at_memory());
    prepare_kernel();
    kernel_[count_] = {-1, 0, 0};
    const dibs::cancel_shield not_cancelled;
    if (real.poll(kernel_, count_, 0) < 0) return -1;
    int ready = 0;
    for (nfds_t i = 0; i < count_; ++i) {
      short events = kernel_[i].revents;
      if (endpoint* known = stream(i); known != nullptr && events != 0) {
        const bool is_talking = !known->link.is_established() && !known->link.is_tcp_only();
        if (((events & input) != 0 || known->link.is_returning()) && !known->link.is_tcp_only() &&
            !is_true_input(*known, fds_[i].fd)) {
          events = static_cast<short>(events & ~input);
        }
        events = whole_end(*known, fds_[i].fd, kernel_[i].events, events, is_talking);
        events = static_cast<short>(events & (fds_[i].events | always));
        sync_members(*known);
      }
      fds_[i].revents = static_cast<short>(fds_[i].revents | events);
      if (fds_[i].revents != 0) ++ready;
    }
    return ready;
  }

  bool hint() const noexcept {
    for (nfds_t i = 0; i < count_; ++i) {
      const endpoint* known = stream(i);
      if (known == nullptr || !known->link.is_established()) continue;
      if ((fds_[i].events & input) != 0 && known->link.input_hint()) return true;
      if ((fds_[i].events & output) != 0 && known->link.room_hint()) return true;
    }
    return false;
  }

  bool shares_cpu() const noexcept {
    for (nfds_t i = 0; i < count_; ++i) {
      const endpoint* known = stream(i);
      if (known != nullptr && known->link.is_established() && known->link.shares_cpu()) return true;
    }
    return false;
  }

  // False if somebody could change without ringing our bell.
  bool enter(sleeper* who) noexcept {
    bool is_sure = who != nullptr;
    for (nfds_t i = 0; i < count_; ++i) {
      endpoint* known = stream(i);
      if (known == nullptr || !is_in_memory(*known, fds_[i].fd)) continue;
      is_sure = who != nullptr && known->link.enter_waiter(who->queue().word(0)) && is_sure;
    }
    if (who != nullptr) who->queue().arm();
    return is_sure;
  }

  void leave(sleeper* who) noexcept {
    if (who == nullptr) return;
    const int saved = errno;
    who->queue().disarm();
    for (nfds_t i = 0; i < count_; ++i) {
      endpoint* known = stream(i);
      if (known != nullptr) known->link.leave_waiter(who->queue().word(0));
    }
    errno = saved;
  }

  static void roll_back(void* of) noexcept {
    auto* cancelled = static_cast<poll_call*>(of);
    cancelled->leave(cancelled->asleep_);
    cancelled->~poll_call();
  }

  static int finish(int ready, int saved) noexcept {
    if (ready >= 0) errno = saved;
    return ready;
  }

  call_memory<pollfd, 65> kernel_memory_;
  call_memory<pinned_place, 64> stream_memory_;
  pollfd* fds_;
  nfds_t count_;
  pollfd* kernel_;
  pinned* streams_;
  sleeper* asleep_ = nullptr;  // with what, if it sleeps
  bool has_memory_ = false;
  bool waits_for_room_ = false;
};

}  // namespace

bool concerns_us(pollfd* fds, nfds_t count) noexcept {
  // More than a process can have, or not there: the kernel says what it thinks.
  constexpr nfds_t most = 1 << 20;
  if (count > most || !is_writable(fds, count * sizeof *fds)) return false;
  bool any = false;
  for (nfds_t i = 0; i < count; ++i) {
    const endpoint* known = self.find(fds[i].fd);
    if (known == nullptr) continue;
    if (known->kind == endpoint::kind_of::epoll) {
      epoll_set* set = known->set.load(std::memory_order_acquire);
      if (set != nullptr && set->has_members()) set->pin_to_tcp();
    }
    any = any || (known->kind == endpoint::kind_of::stream &&
                  !(is_alone() ? known->link.is_tcp_only() : known->link.is_plain()));
  }
  return any;
}

int poll_streams(pollfd* fds, nfds_t count, const deadline& until, const sigset_t* mask) {
  poll_call call(fds, count);
  if (!call.has_memory()) {
    errno = ENOMEM;
    return -1;
  }
  return call.run(until, mask);
}

}  // namespace shim
