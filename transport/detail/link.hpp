// SPDX-License-Identifier: Apache-2.0
#pragma once
// One connection as this process uses it: bytes over whichever lane they take,
// without waiting, or with the calling thread asleep. Knows nothing of Asio.
//
// Calls of one side exclude each other, and so do open and close; a read and a
// write may run at the same time.

#include <devices/spin.hpp>
#include <devices/ticks.hpp>
#include <smcd/connection.hpp>
#include <smcd/stack.hpp>
#include <transport/detail/kernel_lane.hpp>

#include <atomic>
#include <cstdint>
#include <memory>

namespace dibsock::detail {

enum class side : std::uint8_t { reading, writing };
inline constexpr side both_sides[] = {side::reading, side::writing};

// What a waiter must know: who rings, and what to ask the kernel for.
struct wait_terms {
  bool wants_tcp = true;    // watch the TCP lane
  bool wants_tick = false;  // look again soon: there is an event nobody announces
};

class link {
 public:
  link() noexcept = default;
  link(const link&) = delete;
  link& operator=(const link&) = delete;

  // `fd` is connected to `remote`, and outlives the link's use. Without a stack
  // the connection is plain TCP. `may_meet` as in smcd::connection.
  void open(int fd, std::shared_ptr<smcd::stack>, smcd::handshake_role,
            const dibs::inet_address& remote, bool may_meet) noexcept;
  [[nodiscard]] bool is_open() const noexcept { return lane_.fd() >= 0; }
  // Before the socket closes.
  void close() noexcept;

  // Bytes moved, 0 at the end of the stream, would_block, or what TCP says.
  [[nodiscard]] smcd::result<std::size_t> read(smcd::buffers to) noexcept;
  [[nodiscard]] smcd::result<std::size_t> write(smcd::buffers from) noexcept;
  // As read(), but would_block as far as the rings tell: the kernel is not asked
  // for an end of the connection. For who spins, or reads again before it sleeps.
  [[nodiscard]] smcd::result<std::size_t> read_soon(smcd::buffers to) noexcept;
  // The same with a thread that waits.
  [[nodiscard]] smcd::result<std::size_t> read_blocking(smcd::buffers to) noexcept;
  [[nodiscard]] smcd::result<std::size_t> write_blocking(smcd::buffers from) noexcept;
  // One short message through the rings, if nothing else is to be done or told:
  // most often the only thing that a call does. 0: it is not that case.
  [[nodiscard]] std::size_t read_short(smcd::buffers to) noexcept {
    return is_short(to) ? connection_.read_short(to[0].iov_base, to[0].iov_len) : 0;
  }
  [[nodiscard]] std::size_t write_short(smcd::buffers from) noexcept {
    return is_short(from)
               ? connection_.write_short(lane_, from[0].iov_base, from[0].iov_len, dibs::ticks())
               : 0;
  }
  // Would they say something else than would_block?
  [[nodiscard]] bool is_ready(side) noexcept;
  [[nodiscard]] std::size_t readable_size() noexcept;
  // Before that of the socket.
  void shutdown(bool is_reading, bool is_writing) noexcept;

  // True if the handshake went on since the last call. Bytes that a waiter was
  // promised may be gone then: whoever waits has to look again.
  [[nodiscard]] bool has_moved() noexcept;

  // ---- waiting ---------------------------------------------------------------

  // Bytes may be on either lane, now or later; else the kernel knows it all.
  [[nodiscard]] bool has_lanes() const noexcept {
    return has_connection() && !connection_.is_plain();
  }
  // May something have happened on the side? Memory only.
  [[nodiscard]] bool hint(side) const noexcept;
  // Is memory where the next thing will happen?
  [[nodiscard]] bool is_on_dmb(side) const noexcept;
  // Does the peer need this very CPU to make it happen?
  [[nodiscard]] bool shares_cpu() const noexcept;
  [[nodiscard]] dibs::spin_budget& spin(side of) noexcept { return spins_[index(of)]; }
  // False: nobody will ring for this end.
  [[nodiscard]] bool enter_waiter(std::uint64_t word) noexcept;
  void leave_waiter(std::uint64_t word) noexcept;
  [[nodiscard]] wait_terms terms(side, bool is_entered) const noexcept;
  // The TCP lane became readable: take off it what belongs to the handshake.
  // False if there is nothing for the reader.
  [[nodiscard]] bool take_readable() noexcept;

  // There is nothing to do: a look at memory that is not needed.
  void rest() noexcept;

  // ---- for people --------------------------------------------------------------

  [[nodiscard]] bool is_smcd() const noexcept {
    return has_connection() && connection_.is_established();
  }
  // Why it is not SMC-D, or not yet: none.
  [[nodiscard]] smcd::decline_code reason() const noexcept;

  [[nodiscard]] static constexpr std::size_t index(side of) noexcept {
    return static_cast<std::size_t>(of);
  }

 private:
  static constexpr std::size_t longest_short = 8 * 1024;
  // Everybody was told that the handshake is over, so a call changes nothing.
  [[nodiscard]] bool is_short(smcd::buffers list) const noexcept {
    return list.size() == 1 && list[0].iov_len - 1 < longest_short &&
           seen_.load(std::memory_order_relaxed) == smcd::end_stage::established;
  }
  [[nodiscard]] bool enter_early() noexcept;
  [[nodiscard]] bool spin_for(side) noexcept;
  template <class Try>
  [[nodiscard]] smcd::result<std::size_t> block(side, bool may_spin, Try) noexcept;
  [[nodiscard]] smcd::result<std::size_t> judge(smcd::result<std::size_t>) noexcept;
  [[nodiscard]] bool has_connection() const noexcept { return connection_.is_open(); }
  void tell(const char* what) const noexcept;

  std::shared_ptr<smcd::stack> stack_;
  smcd::connection connection_;
  kernel_lane lane_;
  std::atomic<smcd::end_stage> seen_{smcd::end_stage::plain};
  dibs::spin_budget spins_[2];
  int owner_ = 0;  // a forked child does not end its parent's connections
};

// The longest spin of the settings, in ticks.
[[nodiscard]] std::uint64_t longest_spin() noexcept;

}  // namespace dibsock::detail
