// SPDX-License-Identifier: Apache-2.0
// The life of a connection: its begin, waiting, its end.
#include <smcd/connection.hpp>

#include <devices/chaos.hpp>
#include <devices/ticks.hpp>
#include <smcd/error.hpp>

#include <sched.h>

namespace smcd {
namespace {

// Calls that move more than so many bytes, on the average, do not make a connection
// busy: these bytes do.
constexpr std::uint64_t few_bytes = 4096;

}  // namespace

void connection::ring_view::set(std::span<std::byte> dmb) noexcept {
  size = static_cast<std::uint32_t>(dmb.size() - sizeof(cdc::record));
  parts = pieces(static_cast<std::uint32_t>(dmb.size()));
  control.store(reinterpret_cast<cdc::record*>(dmb.data()), std::memory_order_release);
}

void connection::open(stack& on, handshake_role role, const dibs::inet_address& remote,
                      bool may_meet, bool is_native) noexcept {
  stack_ = &on;
  home_ = nullptr;
  device_ = nullptr;
  record_ = {};
  untold_error_ = 0;
  told_cpu_ = 0;
  early_.store(0, std::memory_order_relaxed);
  inbound_.control.store(nullptr, std::memory_order_relaxed);
  outbound_.control.store(nullptr, std::memory_order_relaxed);
  young_.role = role;
  young_.may_meet = may_meet;
  young_.is_native = is_native;
  young_.stays.store(false, std::memory_order_relaxed);
  young_.reason = may_meet ? decline_code::none : decline_code::peer_no_smc;
  young_.remote = remote;
  young_.calls.store(0, std::memory_order_relaxed);
  young_.received.store(0, std::memory_order_relaxed);
  young_.sent.store(0, std::memory_order_relaxed);
  end_.store(nullptr, std::memory_order_release);
}

void connection::resume(const tcp_count& before) noexcept {
  young_.received.store(before.read, std::memory_order_relaxed);
  young_.sent.store(before.written, std::memory_order_relaxed);
}

bool connection::may_be_resumed() const noexcept {
  const end_stage at = stage();
  if (is_young()) return at == end_stage::candidate;
  return (at == end_stage::candidate || at == end_stage::established) && !is_shared() &&
         !is_draining() && !asks_back() && !end()->sending.is_shut && !end()->receiving.is_shut;
}

void connection::grow_up(tcp_lane& tcp) noexcept {
  const dibs::shielded_guard guard(grow_lock_);
  if (!is_young() || young_.stays.load(std::memory_order_relaxed)) return;
  socket_identity socket;
  const bool is_known = tcp.identify(socket) && !socket.local.is_link_local();
  home_ = &stack_->ends();
  end_state* made = is_known ? home_->claim() : nullptr;
  if (made == nullptr) {
    young_.reason = is_known ? decline_code::memory : decline_code::option_unsupported;
    young_.stays.store(true, std::memory_order_release);
    return;
  }
  made->role = young_.role;
  made->is_native = young_.is_native;
  made->holders.store(1, std::memory_order_relaxed);
  made->netns = socket.netns;
  made->socket_cookie = socket.cookie;
  made->local = socket.local;
  made->remote = young_.remote;
  made->self = stack_->self().gid;
  made->dmb_code = size_code_for(stack_->settings().buffer_size);
  hand_over(*made);
  made->local_reason = young_.reason.load(std::memory_order_relaxed);
  made->stage.store(young_.may_meet ? end_stage::candidate : end_stage::plain,
                    std::memory_order_release);
  // Threads that came in before bring the rest, and none begins the handshake
  // until they are out: first access of the grower in [young].
  dibs::chaos::stall();
  end_.store(made, std::memory_order_seq_cst);
}

void connection::hand_over(end_state& to) noexcept {
  to.calls.fetch_add(young_.calls.exchange(0), std::memory_order_relaxed);
  to.receiving.tcp_bytes.fetch_add(young_.received.exchange(0), std::memory_order_relaxed);
  to.sending.tcp_bytes.fetch_add(young_.sent.exchange(0), std::memory_order_relaxed);
}

// Is it worth to leave TCP? Short connections never pay for a handshake, and what
// comes in large pieces is one answer until it is a long one.
bool connection::is_due() const noexcept {
  const config& settings = stack_->settings();
  const end_state* at = end();
  const std::uint32_t calls =
      (at != nullptr ? at->calls : young_.calls).load(std::memory_order_relaxed);
  const std::uint64_t bytes = at != nullptr ? at->sending.offset() + at->receiving.offset()
                                            : young_.sent.load(std::memory_order_relaxed) +
                                                  young_.received.load(std::memory_order_relaxed);
  if (dibs::chaos::one_in(16)) return true;
  return (calls >= settings.switch_calls && bytes / few_bytes <= calls) ||
         bytes >= settings.switch_bytes;
}

bool connection::enter_early(tcp_lane& tcp) noexcept {
  if (!is_tcp_only()) return false;
  if (is_due()) {
    advance(tcp);
    if (!is_tcp_only()) return false;
  }
  early_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// [young] A thread counts itself in, then looks whether the connection has
// grown. The handshake begins after growing, if nobody is counted in. One of
// the two sees the other, so no CLC byte comes while a thread is inside.
bool connection::enter_young() noexcept {
  if (is_due()) return false;
  early_.fetch_add(1, std::memory_order_seq_cst);
  dibs::chaos::stall();
  if (end_.load(std::memory_order_seq_cst) == nullptr) return true;
  early_.fetch_sub(1, std::memory_order_release);
  return false;
}

void connection::leave_early(std::size_t received, std::size_t sent) noexcept {
  if (end_state* grown = end(); grown != nullptr && received + sent > 0) {
    grown->calls.fetch_add(1, std::memory_order_relaxed);
    if (received > 0) grown->receiving.tcp_bytes.fetch_add(received, std::memory_order_relaxed);
    if (sent > 0) grown->sending.tcp_bytes.fetch_add(sent, std::memory_order_relaxed);
  } else if (received + sent > 0) {
    young_.received.fetch_add(received);
    young_.sent.fetch_add(sent);
    young_.calls.fetch_add(1);
    dibs::chaos::stall();
    // Either the one who let it grow sees these, or we see the end.
    if (end_state* grown_now = end_.load()) hand_over(*grown_now);
  }
  early_.fetch_sub(1, std::memory_order_release);
}

// ---- waiting ---------------------------------------------------------------

bool connection::enter_waiter(std::uint64_t word) noexcept {
  return meets_marks() && dibs::enter_waiter(mine(), word);
}

void connection::leave_waiter(std::uint64_t word) noexcept {
  if (meets_marks()) dibs::leave_waiter(mine(), word);
}

void connection::wake_waiters() noexcept {
  if (meets_marks()) stack_->signals().signal(mine());
}

bool connection::shares_cpu() const noexcept {
  const std::uint32_t here = static_cast<std::uint32_t>(::sched_getcpu()) + 1;
  cdc::record* theirs = outbound_.control.load(std::memory_order_relaxed);
  if (theirs != nullptr && theirs->cpu.load(std::memory_order_relaxed) != here) {
    theirs->cpu.store(here, std::memory_order_relaxed);
  }
  const cdc::record* control = inbound_.control.load(std::memory_order_relaxed);
  return control != nullptr && control->cpu.load(std::memory_order_relaxed) == here;
}

// ---- the end ---------------------------------------------------------------

void connection::drop_memory() noexcept {
  if (device_ == nullptr) return;
  inbound_.control.store(nullptr, std::memory_order_relaxed);
  outbound_.control.store(nullptr, std::memory_order_relaxed);
  if (end()->peer_token != 0) device_->detach_dmb(end()->peer, {end()->peer_token});
  if (end()->dmb_token != 0) device_->unregister_dmb(end()->peer, {end()->dmb_token});
  end()->peer_token = end()->dmb_token = 0;
  device_ = nullptr;
}

// Established: tells the peer how it ends.
connection::close_way connection::flag_end(tcp_lane& tcp) noexcept {
  // A peer that left cannot be kept waiting for what it has not got yet.
  const bool is_returned = !has_peer_left() || (attend_leaver(tcp) && !is_returning());
  const bool is_unread = ring_used().value_or(0) > 0;
  change_consumer_word([&](cdc::cursor_word& word) {
    word.connection_flags |= is_unread ? cdc::aborted : cdc::closed;
  });
  stack_->signals().signal(theirs());
  return is_unread || !is_returned ? close_way::reset : close_way::orderly;
}

// In the middle of the handshake: the peer's last message must not be left on
// the TCP lane, and what it wrote to the DMB already counts as unread.
connection::close_way connection::break_off(tcp_lane& tcp) noexcept {
  mine().flags.fetch_or(dibs::flag_refuses | dibs::flag_wants_tcp, std::memory_order_seq_cst);
  dibs::chaos::stall();
  take_last_clc(tcp);
  const bool is_unread =
      inbound_.control.load(std::memory_order_relaxed) != nullptr && ring_used() != 0;
  return is_unread ? close_way::reset : close_way::orderly;
}

connection::close_way connection::say_goodbye(tcp_lane& tcp) noexcept {
  if (is_young()) return close_way::orderly;
  const bool is_last = end()->holders.fetch_sub(1, std::memory_order_acq_rel) == 1;
  if (!is_last || !meets_marks() || is_draining()) return close_way::orderly;
  return is_established() ? flag_end(tcp) : break_off(tcp);
}

connection::close_way connection::close(tcp_lane& tcp) noexcept {
  if (is_young()) {
    stack_ = nullptr;
    return close_way::orderly;
  }
  if (end()->holders.fetch_sub(1, std::memory_order_acq_rel) > 1) {
    end_ = nullptr;
    stack_ = nullptr;
    return close_way::orderly;
  }
  close_way way = close_way::orderly;
  const bool is_client = end()->role == handshake_role::client;
  if (meets_marks() && !is_draining()) {
    // A peer that is further than we are writes to the DMB already. It must hear
    // what TCP says.
    mine().flags.fetch_or(dibs::flag_refuses | dibs::flag_wants_tcp, std::memory_order_seq_cst);
    way = is_established() ? flag_end(tcp) : break_off(tcp);
  }
  drop_memory();
  stack_->meeting().release(record_, is_client);
  record_ = {};
  home_->release(end());
  end_ = nullptr;
  stack_ = nullptr;
  return way;
}

}  // namespace smcd
