// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which bytes of a direction are on which lane. A direction is a stream of
// application bytes counted from 0. The sender publishes a mark before it does
// anything at that offset, so that the receiver always knows where application
// bytes end. CLC bytes are not counted.

#include <devices/rendezvous.hpp>
#include <smcd/clc.hpp>
#include <smcd/cursor.hpp>

#include <cstdint>
#include <optional>

namespace smcd {

enum class lane : std::uint8_t { tcp = 0, dmb = 1 };

// The lane of a direction and how far its ring was used, in one word: so a
// signal handler that comes between sees both or neither, and whoever was
// interrupted by one that used the direction fails to change the word.
struct lane_word {
  lane on = lane::tcp;
  place at;

  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    return std::uint64_t{on == lane::dmb} << 63 | at.rounds << 24 | at.count;
  }
  [[nodiscard]] static constexpr lane_word unpack(std::uint64_t word) noexcept {
    return {(word >> 63) != 0 ? lane::dmb : lane::tcp,
            {word << 1 >> 25, static_cast<std::uint32_t>(word & 0xFFFFFF)}};
  }
};

enum mark_kind : std::uint32_t {
  mark_clc = 1,     // a CLC message of mark::length bytes stands on the TCP lane here
  mark_to_dmb = 2,  // from here on in the DMB
  mark_to_tcp = 3,  // from here on in the TCP lane
  mark_void = 4,    // nothing: the message that was announced here was not sent
};

inline constexpr std::uint32_t longest_clc = clc::max_message_size;

// Sender: is there a free place for one more mark?
[[nodiscard]] bool can_publish(const dibs::record_side& theirs, std::uint32_t published) noexcept;
// Sender: requires can_publish(). `published` is the number so far and grows.
void publish_mark(dibs::record_side& mine, std::uint32_t& published, dibs::mark) noexcept;

// Sender: takes the newest mark back, as long as no byte was sent behind it.
void void_mark(dibs::record_side& mine, std::uint32_t published) noexcept;

// Receiver: what the sender announced after `taken` marks.
struct next_mark {
  enum class answer : std::uint8_t { none, found, invalid } what = answer::none;
  dibs::mark at{};
};
// `offset` is how far the receiver has read; a mark before it is invalid.
[[nodiscard]] next_mark look_at_mark(const dibs::record_side& theirs, std::uint32_t taken,
                                     std::uint64_t offset) noexcept;
void take_mark(dibs::record_side& mine, std::uint32_t& taken) noexcept;

}  // namespace smcd
