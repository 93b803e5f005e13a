// SPDX-License-Identifier: Apache-2.0
// The life of a connection: its begin, waiting, its end.
#include <smcd/connection.hpp>

#include <devices/ticks.hpp>
#include <smcd/error.hpp>

#include <sched.h>

#include <bit>

namespace smcd {
namespace {

// How long close() waits for CLC bytes that were announced just now. Rare: the
// peer must have been stopped between the announcement and the send.
constexpr std::uint64_t close_patience = 20'000 * dibs::ticks_per_us;
constexpr int close_spins = 1000;  // then the CPU is left to others

}  // namespace

void connection::ring_view::set(std::span<std::byte> dmb) noexcept {
  size = static_cast<std::uint32_t>(dmb.size() - sizeof(cdc::record));
  control.store(reinterpret_cast<cdc::record*>(dmb.data()), std::memory_order_release);
}

void connection::open(stack& on, handshake_role role, const socket_name& name, bool may_switch,
                      decline_code reason, bool is_native) noexcept {
  stack_ = &on;
  home_ = &on.ends();
  device_ = nullptr;
  record_ = {};
  untold_error_ = 0;
  told_cpu_ = 0;
  early_.store(0, std::memory_order_relaxed);
  inbound_.control.store(nullptr, std::memory_order_relaxed);
  outbound_.control.store(nullptr, std::memory_order_relaxed);
  end_ = home_->claim();
  if (end_ == nullptr) return;
  end_->role = role;
  end_->is_native = is_native;
  end_->holders.store(1, std::memory_order_relaxed);
  end_->netns = name.netns;
  end_->local = name.local;
  end_->remote = name.remote;
  end_->listener.store(std::bit_cast<std::uint64_t>(name.listener), std::memory_order_relaxed);
  end_->self = on.self().gid;
  end_->dmb_code = size_code_for(on.settings().buffer_size);
  end_->local_reason = reason;
  if (!may_switch) stop_expecting();
  end_->stage.store(may_switch ? end_stage::candidate : end_stage::plain,
                    std::memory_order_release);
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

void connection::leave_early(std::size_t received, std::size_t sent) noexcept {
  early_.fetch_sub(1, std::memory_order_relaxed);
  end_->receiving.tcp_bytes.fetch_add(received, std::memory_order_relaxed);
  end_->sending.tcp_bytes.fetch_add(sent, std::memory_order_relaxed);
  if (received + sent > 0) count_call();
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
  if (end_->peer_token != 0) device_->detach_dmb(end_->peer, {end_->peer_token});
  if (end_->dmb_token != 0) device_->unregister_dmb(end_->peer, {end_->dmb_token});
  end_->peer_token = end_->dmb_token = 0;
  device_ = nullptr;
}

// Established: tells the peer how it ends.
connection::close_way connection::flag_end() noexcept {
  const bool is_unread = ring_used().value_or(0) > 0;
  change_consumer_word([&](cdc::cursor_word& word) {
    word.connection_flags |= is_unread ? cdc::aborted : cdc::closed;
  });
  stack_->signals().signal(theirs());
  return is_unread ? close_way::reset : close_way::orderly;
}

connection::close_way connection::say_goodbye() noexcept {
  const bool is_last = end_->holders.fetch_sub(1, std::memory_order_acq_rel) == 1;
  if (is_last) stop_expecting();
  return is_last && is_established() ? flag_end() : close_way::orderly;
}

connection::close_way connection::close(tcp_lane& tcp) noexcept {
  if (end_->holders.fetch_sub(1, std::memory_order_acq_rel) > 1) {
    end_ = nullptr;
    return close_way::orderly;
  }
  close_way way = close_way::orderly;
  const end_stage at = stage();
  const bool is_client = end_->role == handshake_role::client;
  if (meets_marks()) {
    mine().flags.fetch_or(dibs::flag_refuses, std::memory_order_seq_cst);
    if (at != end_stage::established) {
      // [marks] A message that was announced before the peer saw the refusal
      // is on its way.
      const std::uint64_t deadline = dibs::ticks() + close_patience;
      for (int spins = 0; bytes_before_mark() == 0 && !discard_clc(tcp) && !tcp.has_hung_up() &&
                          dibs::ticks() < deadline;
           ++spins) {
        spins < close_spins ? dibs::relax() : static_cast<void>(::sched_yield());
      }
      // The client may be further than we are.
      if (inbound_.control.load(std::memory_order_relaxed) != nullptr && ring_used() != 0) {
        way = close_way::reset;
      }
    } else {
      way = flag_end();
    }
  }
  drop_memory();
  stop_expecting();
  stack_->meeting().release(record_, is_client);
  record_ = {};
  home_->release(end_);
  end_ = nullptr;
  return way;
}

}  // namespace smcd
