// SPDX-License-Identifier: Apache-2.0
#pragma once
// Bells of others. To ring one is a write to its FIFO; opening it costs several
// times that, so those that were rung lately stay open.

#include <devices/unique_fd.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

namespace dibs {

// Moves a descriptor of ours where programs do not look: above what select() can
// name, if the limit allows that. Where it is, if it cannot be moved.
[[nodiscard]] unique_fd move_high(unique_fd) noexcept;

// Used by whoever holds it.
struct open_bell {
  std::atomic<bool> is_held{false};
  std::uint64_t of = 0;  // queue, as a waiter word with bit 0
  unique_fd fd;
  std::uint64_t inode = 0;

  // False if it was removed, or if the program closed the descriptor behind our
  // back and perhaps made something else of its number.
  [[nodiscard]] bool is_intact() const noexcept;
  void forget() noexcept;
};

// A bell that can be rung while this lives, or none.
class held_bell {
 public:
  held_bell() noexcept = default;
  // Of a place that the caller holds.
  explicit held_bell(open_bell& held) noexcept : of_(held.of), place_(&held) {}
  held_bell(std::uint64_t of, unique_fd fd) noexcept : of_(of), own_(std::move(fd)) {}
  held_bell(held_bell&& other) noexcept { *this = std::move(other); }
  held_bell& operator=(held_bell&& other) noexcept {
    std::swap(of_, other.of_);
    std::swap(place_, other.place_);
    std::swap(own_, other.own_);
    return *this;
  }
  ~held_bell() {
    if (place_ != nullptr) place_->is_held.store(false, std::memory_order_release);
  }

  [[nodiscard]] bool is_open() const noexcept { return place_ != nullptr || own_.is_open(); }
  [[nodiscard]] std::uint64_t of() const noexcept { return of_; }
  // A full bell is rung already.
  void ring() noexcept;

 private:
  std::uint64_t of_ = 0;
  open_bell* place_ = nullptr;
  unique_fd own_;
};

// Any thread, and signal handlers: who finds a place in use does without.
class open_bells {
 public:
  // Opens the bell at `path`, unless it is open. `of` names its queue, not 0.
  [[nodiscard]] held_bell hold(std::uint64_t of, const char* path) noexcept;

 private:
  static constexpr std::size_t count = 16;
  std::array<open_bell, count> places_;
};

}  // namespace dibs
