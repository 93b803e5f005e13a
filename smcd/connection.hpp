// SPDX-License-Identifier: Apache-2.0
#pragma once
// A TCP connection that may move to DMBs and back, as one process uses it.
// Reads and writes like a non-blocking socket; the driver brings the TCP lane,
// the time, and the waiting.
//
// Every connection starts on TCP. Once both ends met in the rendezvous, calls
// made on it carry the CLC handshake along, and each direction switches lane
// at a byte offset that both ends know. See lanes.hpp for how.
//
// Any thread, also concurrently: readers exclude readers, writers writers.
// A signal handler may call in while its thread is inside.

#include <smcd/cdc.hpp>
#include <smcd/end.hpp>
#include <smcd/pieces.hpp>
#include <smcd/ring.hpp>
#include <smcd/stack.hpp>
#include <smcd/tcp_lane.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace smcd {

// What can be seen in passing.
enum class glance : std::uint8_t { no, yes, unclear };

class connection {
 public:
  connection() noexcept = default;
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  // A new connection end, as young as it is: it costs nothing and is known to
  // nobody. `remote` is the address of its peer. `may_meet`: the peer may speak
  // SMC-D, as far as could be seen when they connected.
  void open(stack&, handshake_role, const dibs::inet_address& remote, bool may_meet,
            bool is_native) noexcept;
  [[nodiscard]] bool is_open() const noexcept { return stack_ != nullptr; }
  // After open(), for a socket that another program used before us: as the
  // kernel counts its bytes.
  void resume(const tcp_count&) noexcept;
  // Could another program that this process becomes go on like that? Nobody else
  // may have the socket then.
  [[nodiscard]] bool may_be_resumed() const noexcept;
  // From now on its state stands in the home file, where `dibsock ss` and the
  // copies that fork makes find it. Calls see to that themselves, once the
  // connection has shown that it lives. Without room, or if the socket does not
  // tell who it is, the connection stays on TCP.
  void grow_up(tcp_lane&) noexcept;
  [[nodiscard]] bool is_young() const noexcept { return end() == nullptr; }

  // The application's bytes. As read(2) and write(2) on a non-blocking socket:
  // how many were moved (0: end of stream), would_block, or TCP's error.
  // Requires buffers of at least one byte; `now` in ticks.
  [[nodiscard]] result<std::size_t> read_some(tcp_lane&, buffers, bool is_peek,
                                              std::uint64_t now) noexcept;
  [[nodiscard]] result<std::size_t> write_some(tcp_lane&, buffers, std::uint64_t now) noexcept;

  // The usual case of these and nothing else: one short message, established, in
  // the rings, and nothing to be carried out or asked first. 0: it is not that
  // case, or there is nothing to read, or no room. The program's memory is there.
  [[nodiscard]] std::size_t read_short(void* to, std::size_t size) noexcept;
  [[nodiscard]] std::size_t write_short(tcp_lane&, const void* from, std::size_t size,
                                        std::uint64_t now) noexcept;
  [[nodiscard]] std::size_t write_short(tcp_lane&, buffers from, std::uint64_t now) noexcept;
  // The same with bytes that fill(of, to) puts into the ring itself: up to `most`,
  // or as many as fit there in one piece. It gives how many; 0 ends the call. Called
  // at most once, under a lock: it must not end otherwise.
  using filler = std::uint32_t (*)(void* of, std::span<std::byte> to) noexcept;
  [[nodiscard]] std::size_t write_in_place(tcp_lane&, std::size_t most, std::uint64_t now, filler,
                                           void* of) noexcept;

  // A read stopped here because the stream goes on elsewhere: the rest may be
  // there already.
  [[nodiscard]] bool stands_at_mark() const noexcept {
    return !is_young() && bytes_before_mark() == 0;
  }
  // An error that read_some() gave and that nobody was told of yet: it will be
  // given again.
  void put_back(const error_code&) noexcept;

  // Before the handshake a driver may use the socket's own calls, also blocking
  // ones, as long as nobody else can use the connection meanwhile: true lets it
  // in, and leave_early() says what came of it. In between the connection stays
  // as it is.
  [[nodiscard]] bool enter_early(tcp_lane&) noexcept;
  void leave_early(std::size_t received, std::size_t sent) noexcept;
  // No CLC byte can be on the TCP lane now: what the kernel says of it is true.
  [[nodiscard]] bool is_tcp_only() const noexcept {
    const end_stage at = stage();
    return at == end_stage::plain || at == end_stage::candidate ||
           (at == end_stage::joined && end()->role == handshake_role::client);
  }

  // Takes the handshake as far as it goes. read_some and write_some do so
  // themselves; waiting drivers call it when the TCP lane became readable.
  void advance(tcp_lane&) noexcept;

  // May a read answer at once? True for bytes, end of stream and errors.
  [[nodiscard]] bool has_input(tcp_lane&) noexcept;
  // The same, of the DMB alone: for those who watch the TCP lane by other means.
  [[nodiscard]] bool has_dmb_input(tcp_lane&) noexcept;
  // The same, and has_room(), if a look at the rings tells. No lock, any thread.
  [[nodiscard]] glance glance_at_input() const noexcept;
  [[nodiscard]] glance glance_at_room() const noexcept;
  // Also if bytes on the TCP lane come first, among them what is left of the
  // handshake: the peer may be further than we are.
  [[nodiscard]] bool has_dmb_input_ahead(tcp_lane&) noexcept;
  // May the peer write to a DMB of ours?
  [[nodiscard]] bool has_dmb() const noexcept {
    return meets_marks() && inbound_.control.load(std::memory_order_acquire) != nullptr;
  }
  // May a write take bytes? On the TCP lane the kernel must be asked besides.
  // False leaves word with the reader, who will wake the waiters of this end.
  [[nodiscard]] bool has_room(tcp_lane&, std::uint64_t now) noexcept;
  // How long a full ring is waited for before has_room() says true regardless.
  [[nodiscard]] std::uint32_t patience_us() const noexcept;
  // Bytes that can be read now, both lanes (FIONREAD).
  [[nodiscard]] std::size_t readable_size(tcp_lane&) noexcept;
  // Bytes written and not yet read by the peer, of the DMB lane.
  [[nodiscard]] std::size_t unread_by_peer() noexcept;

  // What the kernel's counters of this socket lack, bytes in DMBs, less what they
  // have besides, CLC messages.
  [[nodiscard]] std::int64_t received_besides() noexcept;
  [[nodiscard]] std::int64_t sent_besides() noexcept;
  // The error that the TCP lane told us and we have not told yet, or 0 (SO_ERROR).
  [[nodiscard]] int take_error() noexcept;

  // True if it can never leave TCP (again): the driver may then use the
  // socket's own calls and forget about us.
  [[nodiscard]] bool is_plain() const noexcept { return stage() == end_stage::plain; }
  [[nodiscard]] bool is_established() const noexcept { return stage() == end_stage::established; }
  [[nodiscard]] end_stage stage() const noexcept {
    const end_state* at = end();
    if (at != nullptr) return at->stage.load(std::memory_order_acquire);
    return young_.stays.load(std::memory_order_acquire) ? end_stage::plain : end_stage::candidate;
  }
  // Why it is on TCP.
  [[nodiscard]] decline_code reason() const noexcept {
    return is_young() ? young_.reason.load(std::memory_order_relaxed) : end()->local_reason;
  }
  // It was asked to stay on TCP, or to come back, by whichever process has it.
  [[nodiscard]] bool asks_back() const noexcept {
    return meets_marks() &&
           (mine().flags.load(std::memory_order_relaxed) & dibs::flag_wants_tcp) != 0;
  }
  // Requires that it sends on the DMB lane. The peer wants bytes over TCP, perhaps
  // because it was closed before its handshake ended.
  [[nodiscard]] bool is_asked_back() const noexcept {
    return (theirs().flags.load(std::memory_order_acquire) & dibs::flag_wants_tcp) != 0;
  }
  // Which lane the next byte takes. Only a hint unless the caller is alone.
  [[nodiscard]] lane sends_on() const noexcept {
    return is_young() ? lane::tcp : end()->sending.on();
  }
  [[nodiscard]] lane receives_on() const noexcept {
    return is_young() ? lane::tcp : end()->receiving.on();
  }

  // The peer announced something that no read has reached: what it sends may take
  // another lane from there on.
  [[nodiscard]] bool has_marks_ahead() const noexcept {
    return !is_young() && meets_marks() &&
           theirs().marks_published.load(std::memory_order_acquire) !=
               end()->receiving.marks.load(std::memory_order_relaxed);
  }

  // A look at memory, no lock: something came or left since the last call on
  // that direction. For spins.
  [[nodiscard]] bool input_hint() const noexcept;
  [[nodiscard]] bool room_hint() const noexcept;
  // True once the peer said that it will write no more.
  [[nodiscard]] bool peer_is_done_sending() const noexcept;
  // One direction has ended, by whichever side; more than bytes is to be told.
  [[nodiscard]] bool is_half_shut() const noexcept {
    return !is_young() &&
           (end()->sending.is_shut || end()->receiving.is_shut || peer_is_done_sending());
  }
  // True if the peer last ran on the CPU that the caller runs on: then it can
  // do nothing while we spin. Tells the peer our CPU, too.
  [[nodiscard]] bool shares_cpu() const noexcept;

  // To be woken when anything changes for this end (event_queue.hpp).
  [[nodiscard]] bool enter_waiter(std::uint64_t word) noexcept;
  void leave_waiter(std::uint64_t word) noexcept;
  // Wakes the waiters of this very end.
  void wake_waiters() noexcept;

  // To be called from time to time while there is nothing else to do, every ten
  // seconds or so: what this end did not use since the last time, and holds no
  // bytes, is given back to the system. Cheap if there is nothing.
  void rest(std::uint64_t now) noexcept;

  // This end will never switch, and comes back to TCP in its sending
  // direction; the peer is asked to do the same.
  void stay_on_tcp(decline_code reason) noexcept;

  // From now on the socket may be used by those who know nothing of us: this
  // end reads and writes TCP only, and what its ring holds unread comes over TCP
  // again. False if that cannot be, because TCP would give other bytes, or these
  // in another order: then the socket must be reset.
  // `drains`: calls on this object go on, and may read what the ring holds until
  // the peer begins to send it again.
  enum class after_leaving : std::uint8_t { drains, is_over };
  [[nodiscard]] bool give_to_kernel(tcp_lane&, after_leaving) noexcept;
  // The peer did that, and bytes for it wait for room on the TCP lane.
  [[nodiscard]] bool is_returning() const noexcept {
    return !is_young() && end()->sending.returning.load(std::memory_order_relaxed) != 0;
  }

  // Before shutdown of the socket, SHUT_WR and SHUT_RD; SHUT_RDWR is both.
  void shutdown_write() noexcept;
  void shutdown_read() noexcept;
  // After these, and before the socket's. What a peer that left has unread must
  // come before FIN. And if both directions are shut now, TCP resets the connection
  // for what comes later, so a message of the handshake on its way is awaited.
  void settle_shutdown(tcp_lane&) noexcept;

  // Before the last close of the socket in this process. `reset`: the peer has
  // not been read to the end, and TCP would send RST.
  enum class close_way : std::uint8_t { orderly, reset };
  close_way close(tcp_lane&) noexcept;
  // The same at the end of the process, where the connection stays usable for
  // threads that still run.
  close_way say_goodbye(tcp_lane&) noexcept;

  // Fork: called in the parent before, in the child after. Under the lock: what a
  // handshake of another thread makes of the connection, the copy must have seen.
  void share() noexcept {
    if (is_young()) return;
    const dibs::lock_guard guard(end()->talk_lock);
    end()->was_shared.store(true, std::memory_order_relaxed);
    end()->holders.fetch_add(1, std::memory_order_relaxed);
  }
  void unshare() noexcept {
    if (!is_young()) end()->holders.fetch_sub(1, std::memory_order_relaxed);
  }
  [[nodiscard]] bool is_shared() const noexcept {
    return !is_young() && end()->holders.load(std::memory_order_relaxed) > 1;
  }
  void move_to(stack& of_child) noexcept { stack_ = &of_child; }

  [[nodiscard]] handshake_role role() const noexcept {
    return is_young() ? young_.role : end()->role;
  }
  // Requires that it has grown up.
  [[nodiscard]] const end_state& state() const noexcept { return *end(); }

 private:
  // The memory of one direction, once attached.
  struct ring_view {
    std::atomic<cdc::record*> control{nullptr};
    std::uint32_t size = 0;  // of the data ring
    pieces parts;
    [[nodiscard]] std::span<std::byte> data() const noexcept {
      return {reinterpret_cast<std::byte*>(control.load(std::memory_order_relaxed) + 1), size};
    }
    void set(std::span<std::byte> dmb) noexcept;
  };

  // Bytes of a young connection go straight over the TCP lane, from any thread:
  // true lets the caller in, and leave_early() follows. False once it is due.
  [[nodiscard]] bool enter_young() noexcept;
  void hand_over(end_state&) noexcept;

  // Brings a young connection up. False if that cannot be: it is on TCP.
  [[nodiscard]] bool is_grown(tcp_lane& tcp) noexcept {
    if (is_young()) [[unlikely]]
      grow_up(tcp);
    return !is_young();
  }

  // Reading; `receiving.lock` is held.
  [[nodiscard]] result<std::size_t> read_ring(tcp_lane&, buffers, bool is_peek,
                                              std::uint64_t word) noexcept;
  [[nodiscard]] result<std::size_t> read_tcp(tcp_lane&, buffers, bool is_peek,
                                             std::uint64_t word) noexcept;
  enum class turn : std::uint8_t { go_on, clc, nothing, broken };
  [[nodiscard]] turn follow_marks() noexcept;
  [[nodiscard]] bool is_cut_off(tcp_lane&) noexcept;
  template <class Visit>
  std::size_t walk_waiting(tcp_lane&, Visit) noexcept;
  [[nodiscard]] std::size_t peek_ahead(tcp_lane&, buffers) noexcept;
  static std::size_t peek_kernel(tcp_lane&, buffer_walk&, std::size_t n, std::size_t past) noexcept;
  void keep(const result<std::size_t>& over) noexcept;
  [[nodiscard]] result<std::size_t> tell(const result<std::size_t>& over) noexcept;
  [[nodiscard]] next_mark mark_ahead() const noexcept;
  [[nodiscard]] std::uint64_t bytes_before_mark() const noexcept;
  [[nodiscard]] std::optional<std::uint32_t> ring_used() const noexcept;
  // Bytes that wait, if a look at the rings tells. No lock, any thread.
  [[nodiscard]] std::optional<std::uint32_t> due_in_ring() const noexcept;
  [[nodiscard]] bool may_tell_consumer(bool is_ring_empty) const noexcept;
  void tell_consumer(bool is_ring_empty) noexcept;
  void tell_place() noexcept;

  template <class Fill>
  [[nodiscard]] std::size_t write_now(tcp_lane&, std::uint32_t least, std::uint32_t most,
                                      std::uint64_t now, Fill) noexcept;
  // Writing; `sending.lock` is held.
  [[nodiscard]] std::uint32_t room_for(buffers) const noexcept;
  [[nodiscard]] std::optional<std::uint32_t> ring_room() const noexcept;
  [[nodiscard]] std::size_t write_ring(buffers, std::uint32_t room, std::uint64_t word,
                                       dibs::held_bell&) noexcept;
  [[nodiscard]] bool may_give_up(tcp_lane&, std::uint64_t now, bool is_look_due,
                                 std::uint32_t enough) noexcept;
  [[nodiscard]] bool is_peer_gone(tcp_lane&) const noexcept;
  [[nodiscard]] bool may_leave(tcp_lane&) const noexcept;
  void unblock() noexcept;
  [[nodiscard]] bool peer_has_closed() const noexcept;
  [[nodiscard]] bool may_return(buffers, std::uint64_t now) noexcept;
  // Is there memory behind the next n bytes of the ring?
  [[nodiscard]] bool is_backed(place at, std::uint32_t n) const noexcept {
    const std::uint64_t backed = end()->sending.backed;
    return backed == pieces::all || (outbound_.parts.of_ring(at.count, n) & ~backed) == 0;
  }
  [[nodiscard]] std::uint32_t back(place at, std::uint32_t n, std::uint64_t now) noexcept;
  void give_back_idle() noexcept;
  bool switch_sending(lane) noexcept;
  template <class Change>
  void change_consumer_word(Change) noexcept;

  // The way back.
  [[nodiscard]] bool has_peer_left() const noexcept {
    return (theirs().flags.load(std::memory_order_seq_cst) & dibs::flag_left) != 0;
  }
  [[nodiscard]] bool leave_lanes(tcp_lane&, after_leaving) noexcept;
  [[nodiscard]] bool can_return(tcp_lane&) noexcept;
  [[nodiscard]] bool is_draining() const noexcept {
    return end()->receiving.is_draining.load(std::memory_order_relaxed);
  }
  void drain(tcp_lane&) noexcept;
  [[nodiscard]] bool take_back(std::uint32_t) noexcept;
  void finish_leaving() noexcept;
  [[nodiscard]] bool is_clc_ahead() noexcept;
  [[nodiscard]] bool attend_leaver(tcp_lane&) noexcept;
  void begin_anew(tcp_lane&) noexcept;
  [[nodiscard]] std::optional<std::uint32_t> unread_by_leaver() noexcept;
  [[nodiscard]] result<std::size_t> return_bytes(tcp_lane&) noexcept;
  template <class IsOver>
  void await_clc(tcp_lane&, IsOver) noexcept;
  void take_last_clc(tcp_lane&) noexcept;
  [[nodiscard]] bool has_clc_arrived(tcp_lane&) noexcept;
  [[nodiscard]] bool is_sound(tcp_lane&) noexcept;

  // For the policy of is_due(); exact only as far as that needs it.
  void count_call() noexcept {
    end()->calls.store(end()->calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  // Handshake; `talk_lock` is held.
  void look_for_peer(tcp_lane&) noexcept;
  void look_for_server() noexcept;
  void look_for_client(tcp_lane&) noexcept;
  [[nodiscard]] bool publish_record() noexcept;
  void begin_talk(tcp_lane&) noexcept;
  [[nodiscard]] bool send_clc(tcp_lane&) noexcept;
  [[nodiscard]] bool receive_clc(tcp_lane&) noexcept;
  void offer_dmb() noexcept;
  void take_outbound(std::span<std::byte> dmb) noexcept;
  void establish(bool is_shared) noexcept;
  void fall_back(decline_code local, decline_code peer) noexcept;
  [[nodiscard]] bool saw_everything(tcp_lane&) noexcept;
  [[nodiscard]] bool is_due() const noexcept;
  [[nodiscard]] bool is_look_due() const noexcept;
  [[nodiscard]] bool peer_refuses() const noexcept;
  void settle() noexcept;
  void tell_shut() noexcept;
  void drop_memory() noexcept;
  close_way flag_end(tcp_lane&) noexcept;
  close_way break_off(tcp_lane&) noexcept;
  [[nodiscard]] bool discard_clc(tcp_lane&) noexcept;
  enum class gathered : std::uint8_t { part, whole, broken };
  [[nodiscard]] gathered gather_clc(tcp_lane&, std::size_t unread, const dibs::mark&,
                                    std::span<const std::byte>& whole) noexcept;

  [[nodiscard]] dibs::record_side& mine() const noexcept {
    return end()->role == handshake_role::client ? record_.at->client : record_.at->server;
  }
  [[nodiscard]] dibs::record_side& theirs() const noexcept {
    return end()->role == handshake_role::client ? record_.at->server : record_.at->client;
  }
  // Could the peer have announced a change of lane or a CLC message?
  [[nodiscard]] bool meets_marks() const noexcept {
    const end_stage at = stage();
    return at != end_stage::plain && at != end_stage::candidate;
  }

  [[nodiscard]] end_state* end() const noexcept { return end_.load(std::memory_order_acquire); }

  // Until it has grown up. What is not atomic changes in open() alone.
  struct youth {
    handshake_role role = handshake_role::client;
    bool may_meet = false;
    bool is_native = false;
    std::atomic<bool> stays = false;  // on TCP for good
    std::atomic<decline_code> reason = decline_code::none;
    dibs::inet_address remote;
    // Calls that moved bytes, and the bytes. Whoever exchanges them for zero
    // adds them to the grown end.
    std::atomic<std::uint32_t> calls = 0;
    std::atomic<std::uint64_t> received = 0;
    std::atomic<std::uint64_t> sent = 0;
  };

  stack* stack_ = nullptr;
  std::atomic<end_state*> end_{nullptr};
  dibs::shared_lock grow_lock_;
  youth young_;
  home* home_ = nullptr;
  dibs::device* device_ = nullptr;  // that registered and attached
  dibs::record_ref record_;
  ring_view inbound_;                    // our DMB
  ring_view outbound_;                   // the peer's
  std::uint32_t told_cpu_ = 0;           // where the peer thinks we run; under sending.lock
  int untold_error_ = 0;                 // of the TCP lane; under receiving.lock
  std::atomic<std::uint32_t> early_{0};  // calls between enter_early and leave_early
};

// ---- inline ----------------------------------------------------------------

// What the peer announced next; of a message that was read in part, the rest.
// Requires meets_marks().
inline next_mark connection::mark_ahead() const noexcept {
  const direction& from = end()->receiving;
  next_mark next =
      look_at_mark(theirs(), from.marks.load(std::memory_order_relaxed), from.offset());
  if (from.clc_bytes == 0 || next.what != next_mark::answer::found) [[likely]]
    return next;
  if (next.at.kind != mark_clc || next.at.length <= from.clc_bytes) {
    next.what = next_mark::answer::invalid;
  } else {
    next.at.length -= from.clc_bytes;
  }
  return next;
}

// Flags and consumer cursor share a word, and this end's reader and writer
// both change it.
template <class Change>
void connection::change_consumer_word(Change change) noexcept {
  cdc::record* control = outbound_.control.load(std::memory_order_acquire);
  if (control == nullptr) return;
  std::uint64_t seen = control->consumer.load(std::memory_order_relaxed);
  for (;;) {
    cdc::cursor_word word = cdc::unpack(seen);
    change(word);
    // [cdc-cons], and first access of the sender in [wake].
    if (control->consumer.compare_exchange_weak(seen, cdc::pack(word), std::memory_order_seq_cst)) {
      return;
    }
  }
}

}  // namespace smcd
