// SPDX-License-Identifier: Apache-2.0
#pragma once
// One end of one connection: all state that belongs to the connection and not
// to a process. It stands in the home file of the device that made it, so that
// parent and child share it after fork and `dibsock ss` can show it. Only the
// processes that hold this end write it; the peer cannot.

#include <devices/alone.hpp>
#include <devices/ids.hpp>
#include <devices/inet.hpp>
#include <devices/lock.hpp>
#include <devices/mapping.hpp>
#include <smcd/handshake.hpp>
#include <smcd/lanes.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace smcd {

enum class end_stage : std::uint8_t {
  plain,        // TCP for good, and no CLC byte will come any more
  candidate,    // the other end may turn up in the rendezvous
  joined,       // both ends are in one record; CLC bytes are permitted
  handshake,    // CLC messages are under way
  declined,     // TCP for good, but a last CLC message may still come
  established,  // SMC-D
};

// One direction as this end sees it. Changed under `lock`; the atomics may be
// glanced at without it.
struct alignas(dibs::cache_line) direction {
  // More room than there is in any ring.
  static constexpr std::uint32_t no_memory = ~std::uint32_t{0};

  dibs::shared_lock lock;
  std::atomic<std::uint32_t> ring_size;  // of the DMB's data ring, 0 before there is one
  std::atomic<std::uint64_t> word;       // lane_word
  std::atomic<std::uint64_t> tcp_bytes;  // of the application, on the TCP lane
  std::uint64_t extra_bytes;         // besides these, on the TCP lane: CLC, and bytes sent again
  std::int64_t besides;              // of a life before: bytes in DMBs less the extra ones
  std::atomic<std::uint32_t> marks;  // sending: published; receiving: taken
  std::atomic<bool> is_shut;         // shutdown(WR or RD) was called
  bool is_pinned;                    // sending: stays on TCP for good
  bool was_peer_first;               // sending: shut after the peer had ended its direction
  // sending: room that the last writer did not find, or no_memory
  std::atomic<std::uint32_t> wanted;
  std::uint64_t told;              // receiving: bytes of the ring that the peer knows we read
  std::uint64_t seen;              // receiving: bytes of the ring known to be there, read or not
  std::uint64_t full_since;        // sending: ticks when the ring was first found full, or 0
  std::uint64_t stint_begin;       // sending: offset where it came to the ring last,
  std::uint64_t stint_end;         // and where it left it last
  std::atomic<bool> is_returning;  // sending: the reader left, and what it did not read is known
  std::atomic<std::uint32_t> returning;  // so many bytes of it, still to be sent over TCP
  // receiving: this end left, and reads what its ring holds until the peer sends
  // it over TCP again.
  std::atomic<bool> is_draining;
  std::uint64_t looked;       // ticks when the TCP lane was last asked for its health
  std::uint64_t backed;       // sending: the pieces of the peer's DMB that have memory (pieces.hpp)
  std::uint32_t clc_bytes;    // receiving: so many of the CLC message that stands next were read
  bool may_have_more;         // sending: an earlier connection left memory behind some others
  std::uint64_t short_since;  // sending: ticks when one could last not be had, or 0
  std::uint64_t rested_word;  // sending: `word` at the last rest,
  std::atomic<std::uint64_t> rested_at;  // which was at these ticks

  [[nodiscard]] lane_word now() const noexcept {
    return lane_word::unpack(word.load(std::memory_order_relaxed));
  }
  [[nodiscard]] lane on() const noexcept { return now().on; }
  // Application bytes so far, on each lane and on both.
  [[nodiscard]] std::uint64_t dmb_bytes() const noexcept {
    return bytes_before(now().at, ring_size);
  }
  [[nodiscard]] std::uint64_t offset() const noexcept {
    return tcp_bytes.load(std::memory_order_relaxed) + dmb_bytes();
  }
  // On TCP again, as if it had never left; so many bytes went over it so far.
  void begin_anew(std::uint64_t on_tcp) noexcept {
    besides += static_cast<std::int64_t>(dmb_bytes() - extra_bytes);
    word = 0;
    ring_size = 0;
    tcp_bytes = on_tcp;
    extra_bytes = told = seen = full_since = stint_begin = stint_end = looked = 0;
    backed = short_since = rested_word = 0;
    rested_at = 0;
    marks = wanted = returning = clc_bytes = 0;
    is_pinned = was_peer_first = is_returning = may_have_more = false;
  }
};

// All zero is a fresh end. Everything outside the directions is changed under
// `talk_lock`.
struct end_state {
  std::atomic<std::uint32_t> in_use;   // 1 from claim to release
  std::atomic<std::uint32_t> holders;  // processes that hold the socket, a hint only
  std::atomic<std::uint32_t> calls;    // that moved bytes
  std::atomic<end_stage> stage;
  handshake_role role;
  bool is_native;                      // made by the Asio transport
  bool is_clc_marked;                  // the mark of the message in `talk` is published
  bool peer_is_done;                   // the peer has sent its last CLC message
  std::atomic<bool> was_shared;        // by processes, at any time
  std::uint8_t dmb_code;               // size code of our DMB
  std::uint32_t tries;                 // candidate, client: looked for the other end so often
  std::atomic<std::uint32_t> look_at;  // candidate, server: look for the other end at this call
  std::uint64_t netns;
  std::uint64_t socket_cookie;
  dibs::inet_address local;
  dibs::inet_address remote;
  std::uint32_t record_index;
  std::uint32_t link_id;
  std::uint64_t dmb_token;   // ours, 0 before there is one
  std::uint64_t peer_token;  // the one we write, 0 before it is attached
  dibs::gid self;
  dibs::gid peer;
  decline_code local_reason;
  decline_code peer_reason;

  dibs::shared_lock talk_lock;
  handshake talk;
  std::array<std::byte, longest_clc> clc_input;  // what was read of a message of the peer's

  direction sending;
  direction receiving;

  // Only the calling thread can use this end now.
  [[nodiscard]] bool is_alone() const noexcept {
    return dibs::is_alone() && !was_shared.load(std::memory_order_relaxed);
  }
};
static_assert(sizeof(end_state) <= 2048);

}  // namespace smcd
