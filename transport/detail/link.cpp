// SPDX-License-Identifier: Apache-2.0
#include <transport/detail/link.hpp>

#include <devices/ticks.hpp>
#include <smcd/error.hpp>
#include <transport/detail/process.hpp>
#include <transport/detail/thread_sleep.hpp>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/single_threaded.h>
#include <sys/socket.h>

#include <array>

namespace dibsock::detail {
namespace {

using smcd::decline_code;
using smcd::end_stage;

// A TCP lane that claims to be readable so often, and gives nothing, is not
// watched any more: then time decides.
constexpr int most_vain_wakes = 8;

}  // namespace

std::uint64_t longest_spin() noexcept {
  return std::uint64_t{settings().spin_us} * dibs::ticks_per_us;
}

// ---- the life --------------------------------------------------------------

void link::open(int fd, std::shared_ptr<smcd::stack> stack, smcd::handshake_role role,
                const dibs::inet_address& remote, bool may_meet) noexcept {
  lane_ = kernel_lane(fd);
  owner_ = this_process();
  stack_ = std::move(stack);
  if (stack_ != nullptr) connection_.open(*stack_, role, remote, may_meet, true);
  seen_.store(end_stage::candidate, std::memory_order_relaxed);
}

void link::close() noexcept {
  if (has_connection() && owner_ == this_process() &&
      connection_.close(lane_) == smcd::connection::close_way::reset) {
    lane_.reset_at_close();
  }
  lane_ = {};
}

bool link::has_moved() noexcept {
  if (!has_connection()) return false;
  const end_stage now = connection_.stage();
  if (seen_.load(std::memory_order_relaxed) == now ||
      seen_.exchange(now, std::memory_order_relaxed) == now) {
    return false;
  }
  if (now == end_stage::established) tell("SMC-D");
  if (now == end_stage::plain || now == end_stage::declined) tell(smcd::to_text(reason()));
  return true;
}

decline_code link::reason() const noexcept {
  return has_connection() ? connection_.reason() : decline_code::no_smcd_device;
}

void link::tell(const char* what) const noexcept {
  if (!settings().logs || connection_.is_young()) return;
  const smcd::end_state& end = connection_.state();
  std::array<char, INET6_ADDRSTRLEN> local{};
  std::array<char, INET6_ADDRSTRLEN> remote{};
  ::inet_ntop(AF_INET6, end.local.bytes.data(), local.data(), local.size());
  ::inet_ntop(AF_INET6, end.remote.bytes.data(), remote.data(), remote.size());
  log("[%s]:%u - [%s]:%u: %s", local.data(), unsigned{end.local.port}, remote.data(),
      unsigned{end.remote.port}, what);
}

// ---- bytes -----------------------------------------------------------------

smcd::result<std::size_t> link::read(smcd::buffers to) noexcept {
  if (const std::size_t n = read_short(to); n > 0) return n;
  if (!has_lanes()) return lane_.receive(to, false);
  return judge(connection_.read_some(lane_, to, false, dibs::ticks()));
}

smcd::result<std::size_t> link::read_soon(smcd::buffers to) noexcept {
  if (const std::size_t n = read_short(to); n > 0) return n;
  if (is_short(to) && connection_.glance_at_input() == smcd::glance::no) {
    return dibs::would_block();
  }
  return read(to);
}

smcd::result<std::size_t> link::write(smcd::buffers from) noexcept {
  if (const std::size_t n = write_short(from); n > 0) return n;
  if (!has_lanes()) return lane_.send(from, false);
  return judge(connection_.write_some(lane_, from, dibs::ticks()));
}

// A peer that broke the protocol ends this connection and nothing else.
smcd::result<std::size_t> link::judge(smcd::result<std::size_t> got) noexcept {
  if (got || got.error().category() == boost::system::system_category()) return got;
  tell(got.error().message().c_str());
  connection_.stay_on_tcp(decline_code::internal_error);
  ::shutdown(lane_.fd(), SHUT_RDWR);
  return dibs::system_error(ECONNRESET);
}

bool link::is_ready(side of) noexcept {
  const bool is_reading = of == side::reading;
  if (!has_lanes()) return lane_.is_ready(is_reading ? POLLIN : POLLOUT);
  if (is_reading) return connection_.has_input(lane_);
  if (!connection_.has_room(lane_, dibs::ticks())) return false;
  return connection_.sends_on() == smcd::lane::dmb || lane_.is_ready(POLLOUT);
}

std::size_t link::readable_size() noexcept {
  return has_lanes() ? connection_.readable_size(lane_) : lane_.unread();
}

void link::shutdown(bool is_reading, bool is_writing) noexcept {
  if (!has_connection()) return;
  if (is_reading) connection_.shutdown_read();
  if (is_writing) connection_.shutdown_write();
  connection_.settle_shutdown(lane_);
}

// ---- waiting ---------------------------------------------------------------

bool link::is_on_dmb(side of) const noexcept {
  if (!has_connection() || !connection_.is_established()) return false;
  const smcd::lane on = of == side::reading ? connection_.receives_on() : connection_.sends_on();
  return on == smcd::lane::dmb;
}

bool link::hint(side of) const noexcept {
  return of == side::reading ? connection_.input_hint() : connection_.room_hint();
}

bool link::shares_cpu() const noexcept { return connection_.shares_cpu(); }

bool link::enter_waiter(std::uint64_t word) noexcept {
  return has_lanes() && connection_.enter_waiter(word);
}

void link::leave_waiter(std::uint64_t word) noexcept {
  if (has_connection()) connection_.leave_waiter(word);
}

wait_terms link::terms(side of, bool is_entered) const noexcept {
  if (!has_lanes()) return {};
  const end_stage at = connection_.stage();
  wait_terms terms;
  // A candidate is only ever spoken to over TCP.
  terms.wants_tick = (!is_entered && at != end_stage::candidate) || connection_.is_returning();
  if (of == side::writing && is_on_dmb(of)) {
    // A full ring: the reader rings. Its death, and the end of our patience,
    // are a matter of time.
    terms = {false, true};
  }
  return terms;
}

bool link::take_readable() noexcept {
  return !has_lanes() || connection_.is_tcp_only() || connection_.has_input(lane_);
}

void link::rest() noexcept {
  if (has_connection()) connection_.rest(dibs::ticks());
}

bool link::spin_for(side of) noexcept {
  return is_on_dmb(of) && spin(of).spin(
                              longest_spin(), [&]() noexcept { return hint(of); },
                              [&]() noexcept { return shares_cpu(); });
}

template <class Try>
smcd::result<std::size_t> link::block(side of, bool may_spin, Try attempt) noexcept {
  int vain_wakes = 0;
  bool may_try_spin = may_spin;
  for (;;) {
    smcd::result<std::size_t> got = attempt();
    if (got || !dibs::is_would_block(got.error())) return got;
    if (may_try_spin && spin_for(of)) {
      // If the hint was wrong the next round sleeps.
      may_try_spin = false;
      continue;
    }
    const end_stage before = seen_.load(std::memory_order_relaxed);
    thread_sleep sleep(has_lanes() ? &connection_ : nullptr, stack_);
    got = attempt();
    if (got || !dibs::is_would_block(got.error())) return got;
    wait_terms wanted = terms(of, sleep.is_entered());
    if (vain_wakes > most_vain_wakes) wanted = {false, true};
    const short events = wanted.wants_tcp ? (of == side::reading ? POLLIN : POLLOUT) : short{0};
    // Another thread may take the handshake along, on its side of the stream.
    const bool is_unsure = has_lanes() && !sleep.is_entered();
    while (true) {
      const auto woken = sleep.until(lane_.fd(), events, wanted.wants_tick, is_unsure);
      if (woken == thread_sleep::woken::interrupted) return dibs::system_error(EINTR);
      if (woken == thread_sleep::woken::by_tcp) {
        ++vain_wakes;
        if (of == side::reading) static_cast<void>(take_readable());
      }
      if (woken != thread_sleep::woken::by_time || wanted.wants_tick || sleep.is_entered()) break;
      if (connection_.stage() != before) break;
    }
    may_try_spin = true;
  }
}

// Before the handshake the kernel does the waiting, if no other thread can use
// the connection meanwhile.
bool link::enter_early() noexcept {
  return __libc_single_threaded != 0 && connection_.enter_early(lane_);
}

smcd::result<std::size_t> link::read_blocking(smcd::buffers to) noexcept {
  bool may_spin = true;
  if (is_short(to)) {
    if (const std::size_t n = read_short(to); n > 0) return n;
    // What comes soon is worth a spin before anything else.
    may_spin = false;
    if (spin_for(side::reading)) {
      if (const std::size_t n = read_short(to); n > 0) return n;
    }
  }
  smcd::result<std::size_t> got = dibs::would_block();
  if (!has_lanes()) {
    got = lane_.receive(to, true);
  } else if (enter_early()) {
    got = lane_.receive(to, true);
    connection_.leave_early(got ? *got : 0, 0);
  }
  if (got || !dibs::is_would_block(got.error())) return got;
  return block(side::reading, may_spin, [&]() noexcept { return read(to); });
}

smcd::result<std::size_t> link::write_blocking(smcd::buffers from) noexcept {
  if (const std::size_t n = write_short(from); n > 0) return n;
  smcd::result<std::size_t> sent = dibs::would_block();
  if (!has_lanes()) {
    sent = lane_.send(from, true);
  } else if (enter_early()) {
    sent = lane_.send(from, true);
    connection_.leave_early(0, sent ? *sent : 0);
  }
  if (sent || !dibs::is_would_block(sent.error())) return sent;
  return block(side::writing, true, [&]() noexcept { return write(from); });
}

}  // namespace dibsock::detail
