// SPDX-License-Identifier: Apache-2.0
// The handshake with the peer, once both know of each other.
#include <smcd/connection.hpp>

#include <devices/chaos.hpp>
#include <smcd/error.hpp>

#include <algorithm>
#include <utility>

namespace smcd {

void connection::advance(tcp_lane& tcp) noexcept {
  if (is_young() && !is_due()) return;
  if (!is_grown(tcp)) return;
  if (const end_stage at = stage(); at == end_stage::plain || at == end_stage::established) return;
  if (early_.load(std::memory_order_seq_cst) != 0) return;  // [young]
  if (stage() == end_stage::candidate && (!is_due() || !is_look_due())) return;
  const dibs::signal_shield quiet;
  const dibs::lock_guard guard(end()->talk_lock);
  if (guard.is_nested()) return;
  // While fork's copies are open nobody knows who will use the socket: nothing
  // new begins, and what the peer began is declined.
  const bool is_shared = end()->holders.load(std::memory_order_relaxed) > 1;
  if (stage() == end_stage::candidate && !is_shared) look_for_peer(tcp);
  if (stage() == end_stage::joined) {
    if (!is_shared) {
      begin_talk(tcp);
    } else if (theirs().marks_published.load(std::memory_order_acquire) != 0) {
      fall_back(decline_code::option_unsupported, decline_code::none);
    }
  }
  while (stage() == end_stage::handshake) {
    switch (end()->talk.step()) {
      case handshake_step::send_output:
        if (!send_clc(tcp)) return;
        break;
      case handshake_step::receive_input:
        if (!receive_clc(tcp)) return;
        break;
      case handshake_step::offer_dmb:
        if (is_shared) {
          end()->talk.decline(decline_code::option_unsupported);
        } else {
          offer_dmb();
        }
        break;
      case handshake_step::established: establish(is_shared); return;
      case handshake_step::fallback:
        fall_back(end()->talk.local_reason(), end()->talk.peer_reason());
        break;
    }
  }
  while (stage() == end_stage::declined && discard_clc(tcp)) {
  }
  if (stage() == end_stage::declined) settle();
}

// Declined: once the peer refuses as well, and no message of it is left, no
// CLC byte can come any more.
void connection::settle() noexcept {
  const bool refuses = peer_refuses();
  const dibs::lock_guard guard(end()->receiving.lock);
  if (refuses && theirs().marks_published.load(std::memory_order_acquire) ==
                     end()->receiving.marks.load(std::memory_order_relaxed)) {
    end()->stage.store(end_stage::plain, std::memory_order_release);
  }
}

void connection::begin_talk(tcp_lane& tcp) noexcept {
  if (peer_refuses()) return fall_back(decline_code::peer_no_smc, decline_code::none);
  if (end()->self != stack_->self().gid) {
    return fall_back(decline_code::internal_error, decline_code::none);
  }
  const bool is_client = end()->role == handshake_role::client;
  if (is_client) {
    if (!is_due()) return;
    if (end()->sending.is_shut || !saw_everything(tcp)) {
      return fall_back(decline_code::option_unsupported, decline_code::none);
    }
  } else if (theirs().marks_published.load(std::memory_order_acquire) == 0) {
    return;
  } else if (!saw_everything(tcp)) {
    return fall_back(decline_code::option_unsupported, decline_code::none);
  }
  if (!tcp.may_leave_tcp()) return fall_back(decline_code::option_unsupported, decline_code::none);
  if (const std::uint32_t wanted = tcp.wanted_buffer(); wanted != 0) {
    end()->dmb_code = size_code_for(wanted);
  }
  drop_memory();  // of a life before
  const dibs::lock_guard guard(end()->receiving.lock);
  end()->talk = is_client ? handshake::client(stack_->self(), record_.at->nonce)
                          : handshake::server(stack_->self(), record_.at->nonce);
  end()->stage.store(end_stage::handshake, std::memory_order_release);
}

bool connection::peer_refuses() const noexcept {
  const std::uint64_t state = record_.at->state.load(std::memory_order_seq_cst);
  const bool is_gone = (state & (end()->role == handshake_role::client ? dibs::server_gone
                                                                       : dibs::client_gone)) != 0;
  return is_gone || (theirs().flags.load(std::memory_order_seq_cst) & dibs::flag_refuses) != 0;
}

// True if the message is out, or will never be: look at the step again.
bool connection::send_clc(tcp_lane& tcp) noexcept {
  direction& to = end()->sending;
  const dibs::lock_guard guard(to.lock);
  if (guard.is_nested()) return false;
  if (!end()->is_clc_marked) {
    // A dead peer's kernel answers our message with RST, and may drop bytes of
    // the application over it that are still on their way to us.
    const dibs::gid named = end()->talk.peer_gid();
    const bool is_alive =
        stack_->device().query_remote_gid(named.is_none() ? theirs().device : named);
    // One that ended may not read either: then its kernel resets the connection.
    if (to.is_shut || peer_refuses() || !is_alive || tcp.has_hung_up()) {
      end()->talk.give_up(decline_code::peer_declined);
      return true;
    }
    std::uint32_t published = to.marks.load(std::memory_order_relaxed);
    if (!can_publish(theirs(), published)) return false;
    publish_mark(
        mine(), published,
        {to.offset(), mark_clc, static_cast<std::uint32_t>(end()->talk.get_output().size())});
    to.marks.store(published, std::memory_order_relaxed);
    // Now the peer knows. If it refused in this moment, the message is not sent:
    // unread it would make the kernel reset a connection that is being closed.
    if (peer_refuses()) {
      void_mark(mine(), published);
      end()->talk.give_up(decline_code::peer_declined);
      return true;
    }
    end()->is_clc_marked = true;
  }
  while (!end()->talk.get_output().empty()) {
    const auto left = static_cast<std::uint32_t>(end()->talk.get_output().size());
    const result<std::size_t> sent =
        tcp.send(end()->talk.get_output().first(dibs::chaos::at_most(left)));
    dibs::chaos::stall();
    if (!sent && dibs::is_would_block(sent.error())) return false;
    if (!sent) {
      end()->talk.give_up(decline_code::internal_error);
      break;
    }
    end()->talk.output_sent(*sent);
    to.extra_bytes += *sent;
  }
  end()->is_clc_marked = false;
  return true;
}

bool connection::receive_clc(tcp_lane& tcp) noexcept {
  direction& from = end()->receiving;
  const dibs::lock_guard guard(from.lock);
  if (guard.is_nested()) return false;
  // Count first, look after: what is counted was sent behind a mark that stands.
  const std::size_t unread = tcp.unread();
  const next_mark next = mark_ahead();
  if (next.what == next_mark::answer::none || next.at.kind == mark_void) {
    if (!peer_refuses()) return false;
    end()->talk.give_up(decline_code::peer_declined);
    return true;
  }
  if (next.what == next_mark::answer::invalid || next.at.kind != mark_clc) {
    end()->talk.give_up(decline_code::internal_error);
    return true;
  }
  if (next.at.offset > from.offset()) return false;  // application bytes come first
  std::span<const std::byte> message;
  switch (gather_clc(tcp, unread, next.at, message)) {
    case gathered::part: return false;
    case gathered::broken: end()->talk.give_up(decline_code::internal_error); return true;
    case gathered::whole: break;
  }
  // A malformed message shows in the step.
  static_cast<void>(end()->talk.put_input(message));
  if (end()->role == handshake_role::client || end()->talk.step() != handshake_step::offer_dmb) {
    end()->peer_is_done = true;
  }
  return true;
}

// Reads what has come of the message that stands next on the TCP lane; `unread`
// bytes are there. It does not wait for all: with a full window the kernel may have
// room for the end of it only when we have taken its beginning.
connection::gathered connection::gather_clc(tcp_lane& tcp, std::size_t unread, const dibs::mark& at,
                                            std::span<const std::byte>& whole) noexcept {
  direction& from = end()->receiving;
  const std::span<std::byte> place = end()->clc_input;
  std::size_t left = at.length;
  if (from.clc_bytes + left > place.size()) return gathered::broken;
  for (std::size_t n = std::min(unread, left); n > 0;) {
    const result<std::size_t> got = tcp.receive(place.subspan(from.clc_bytes, n));
    if (!got || *got == 0) return gathered::broken;
    from.clc_bytes += static_cast<std::uint32_t>(*got);
    from.extra_bytes += *got;
    left -= *got;
    n -= *got;
  }
  if (left > 0) return gathered::part;
  whole = place.first(std::exchange(from.clc_bytes, 0));
  std::uint32_t taken = from.marks.load(std::memory_order_relaxed);
  take_mark(mine(), taken);
  from.marks.store(taken, std::memory_order_relaxed);
  return gathered::whole;
}

void connection::offer_dmb() noexcept {
  dibs::device& device = stack_->device();
  const dibs::gid peer = end()->talk.peer_gid();
  const dibs::dmb_token peer_token = end()->talk.peer_token();
  const bool is_client = end()->role == handshake_role::client;
  // What travelled on the connection and what stands in the record must be of
  // one peer: then both ends mean the same connection.
  if (theirs().device != peer || (is_client && theirs().token != peer_token.value)) {
    return end()->talk.decline(decline_code::internal_error);
  }
  // A child of fork cannot keep what its parent promised.
  if (end()->self != stack_->self().gid) return end()->talk.decline(decline_code::internal_error);
  device_ = &device;
  end()->peer = peer;
  if (is_client) {
    const result<dibs::dmb> attached = device.attach_dmb(peer, peer_token);
    if (!attached) return end()->talk.decline(decline_code::memory);
    end()->peer_token = peer_token.value;
    if (attached->memory.size() != size_of_code(end()->talk.peer_size_code())) {
      return end()->talk.decline(decline_code::memory);
    }
    take_outbound(attached->memory);
  }
  // A process that talks to itself may send much before it reads, in one thread.
  if (peer == end()->self) end()->dmb_code = size_code_for(dibs::max_dmb_size);
  if (dibs::chaos::one_in(2)) end()->dmb_code = static_cast<std::uint8_t>(dibs::chaos::below(16));
  result<dibs::dmb> made = device.register_dmb(peer, size_of_code(end()->dmb_code));
  while (!made && made.error() == dibs::errc::fabric_full && end()->dmb_code > 0) {
    --end()->dmb_code;
    made = device.register_dmb(peer, size_of_code(end()->dmb_code));
  }
  if (!made) {
    return end()->talk.decline(made.error() == dibs::errc::no_dmb_left ? decline_code::no_dmb_left
                                                                       : decline_code::memory);
  }
  end()->dmb_token = made->token.value;
  mine().token = made->token.value;
  inbound_.set(made->memory);
  end()->receiving.ring_size = inbound_.size;
  if (is_client) {
    end()->link_id = end()->talk.link_id();
    stack_->groups().adopt(peer, end()->link_id);
    end()->talk.offer(made->token, end()->dmb_code, end()->link_id, false);
  } else {
    const link_groups::entry group = stack_->groups().find_or_add(peer);
    end()->link_id = group.link_id;
    end()->talk.offer(made->token, end()->dmb_code, group.link_id, group.is_new);
  }
}

void connection::take_outbound(std::span<std::byte> dmb) noexcept {
  outbound_.set(dmb);
  end()->sending.ring_size = outbound_.size;
  end()->sending.backed = outbound_.parts.at_first();
  end()->sending.may_have_more = true;
}

void connection::establish(bool is_shared) noexcept {
  if (end()->role == handshake_role::server) {
    const dibs::dmb_token token = end()->talk.peer_token();
    // What only this process attaches, its copies could not write to.
    const bool is_ours = !is_shared && end()->self == stack_->self().gid;
    const result<dibs::dmb> attached =
        is_ours ? device_->attach_dmb(end()->peer, token)
                : result<dibs::dmb>(make_error_code(dibs::errc::unknown_gid));
    if (attached && attached->memory.size() == size_of_code(end()->talk.peer_size_code())) {
      end()->peer_token = token.value;
      take_outbound(attached->memory);
    } else {
      // Our direction stays on TCP, and since we could not free space in the
      // other one it has to come back.
      if (attached) device_->detach_dmb(end()->peer, token);
      mine().flags.fetch_or(dibs::flag_wants_tcp, std::memory_order_release);
    }
  }
  const dibs::lock_guard guard(end()->sending.lock);
  cdc::record* control = outbound_.control.load(std::memory_order_relaxed);
  if (control != nullptr) control->type = cdc::record_type;
  end()->sending.is_pinned = end()->sending.is_pinned || control == nullptr;
  end()->local_reason = decline_code::none;
  dibs::chaos::stall();
  end()->stage.store(end_stage::established, std::memory_order_release);
  dibs::chaos::stall();
  // A reader of ours that met the peer's mark too early must look again.
  stack_->signals().signal(mine());
  if (!end()->sending.is_pinned && !end()->sending.is_shut)
    static_cast<void>(switch_sending(lane::dmb));
}

void connection::fall_back(decline_code local, decline_code peer) noexcept {
  end()->local_reason = local;
  end()->peer_reason = peer;
  drop_memory();
  const dibs::lock_guard guard(end()->receiving.lock);
  if (stage() == end_stage::candidate) {
    stack_->meeting().release(record_, true);
    record_ = {};
    end()->stage.store(end_stage::plain, std::memory_order_release);
    return;
  }
  mine().flags.fetch_or(dibs::flag_refuses, std::memory_order_seq_cst);
  end()->stage.store(end()->peer_is_done ? end_stage::plain : end_stage::declined,
                     std::memory_order_release);
}

void connection::stay_on_tcp(decline_code reason) noexcept {
  if (is_young()) {
    const dibs::shielded_guard growing(grow_lock_);
    if (is_young()) {
      young_.reason = reason;
      young_.stays.store(true, std::memory_order_release);
      return;
    }
  }
  const dibs::lock_guard guard(end()->talk_lock);
  if (guard.is_nested()) return;
  switch (stage()) {
    case end_stage::plain:
    case end_stage::declined: return;
    case end_stage::candidate:
    case end_stage::joined: return fall_back(reason, decline_code::none);
    case end_stage::handshake:
      // What was announced has to be sent, and a DMB that was offered may be
      // written to already. Then only the lanes can be taken back.
      if (!end()->is_clc_marked && end()->dmb_token == 0) return end()->talk.give_up(reason);
      break;
    case end_stage::established: break;
  }
  mine().flags.fetch_or(dibs::flag_wants_tcp, std::memory_order_release);
  const dibs::lock_guard sending(end()->sending.lock);
  end()->sending.is_pinned = true;
  if (end()->sending.on() == lane::dmb) static_cast<void>(switch_sending(lane::tcp));
}

// Takes a CLC message that nobody wants off the TCP lane: unread it would make
// the kernel reset the connection on close.
bool connection::discard_clc(tcp_lane& tcp) noexcept {
  direction& from = end()->receiving;
  const dibs::lock_guard guard(from.lock);
  if (guard.is_nested()) return false;
  const std::size_t unread = tcp.unread();
  const next_mark next = mark_ahead();
  if (next.what != next_mark::answer::found || next.at.kind != mark_clc ||
      next.at.offset != from.offset()) {
    return false;
  }
  std::span<const std::byte> message;
  return gather_clc(tcp, unread, next.at, message) == gathered::whole;
}

}  // namespace smcd
