// SPDX-License-Identifier: Apache-2.0
#pragma once
// The home file of a device: who the process is, and the state of every
// connection end it has. Writer: the process and its children. Readers: the
// tools, which map it read-only and trust nothing in it.

#include <devices/fabric.hpp>
#include <devices/mapping.hpp>
#include <smcd/end.hpp>
#include <smcd/error.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

namespace smcd {

struct home_header {
  std::atomic<std::uint64_t> magic;  // stored last: name and layout version
  dibs::gid device;
  dibs::fabric_id chid;
  std::uint32_t pid;  // to be shown, never to be probed
  std::uint32_t uid;
  std::array<char, 16> command;
  std::atomic<std::uint32_t> ends;  // slots ever used are below this
  std::atomic<std::uint64_t> reserved_pages[64];
};

class home {
 public:
  static constexpr std::uint32_t max_ends = 8192;
  static constexpr std::size_t slot_size = 2048;

  home() noexcept = default;
  [[nodiscard]] static error_code create(home&, const dibs::fabric&, const dibs::gid&,
                                         dibs::fabric_id) noexcept;

  // A zeroed slot, or null: too many, or no memory left on the fabric.
  [[nodiscard]] end_state* claim() noexcept;
  void release(end_state*) noexcept;
  [[nodiscard]] std::uint32_t index_of(const end_state*) const noexcept;

 private:
  [[nodiscard]] home_header& head() const noexcept { return *memory_.at<home_header>(0); }
  [[nodiscard]] bool reserve_page(std::size_t page) noexcept;

  dibs::fabric::path_text path_{};
  dibs::mapping memory_;
  std::atomic<std::uint32_t> hint_{0};
};

// A tool's view of somebody's home.
class home_reader {
 public:
  [[nodiscard]] static result<home_reader> open(const dibs::fabric&, const dibs::gid&) noexcept;

  [[nodiscard]] const home_header& head() const noexcept { return *memory_.at<home_header>(0); }
  // Calls visit(const end_state&) for each end in use.
  template <class Visit>
  void for_each_end(Visit visit) const {
    const std::uint32_t count =
        std::min(head().ends.load(std::memory_order_acquire), home::max_ends);
    for (std::uint32_t i = 0; i < count; ++i) {
      if (const end_state* end = at(i); end != nullptr) visit(*end);
    }
  }

 private:
  [[nodiscard]] const end_state* at(std::uint32_t index) const noexcept;
  dibs::mapping memory_;
};

}  // namespace smcd
