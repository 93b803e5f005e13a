// SPDX-License-Identifier: Apache-2.0
#pragma once
// Link groups: the connections of a pair of devices. Their memory belongs to
// the device layer; here they have their number, which `dibsock ss` shows and
// which travels in Accept, and the answer to "is this the first contact?".

#include <devices/ids.hpp>
#include <devices/lock.hpp>

#include <array>
#include <cstdint>

namespace smcd {

// Any thread.
class link_groups {
 public:
  struct entry {
    dibs::gid peer;
    std::uint32_t link_id = 0;
    bool is_new = false;  // made by this very call: first contact
  };

  // Server: the group with that peer, made if there is none.
  [[nodiscard]] entry find_or_add(const dibs::gid& peer) noexcept;
  // Client: takes the number that the server gave.
  void adopt(const dibs::gid& peer, std::uint32_t link_id) noexcept;

 private:
  static constexpr std::size_t capacity = 256;
  [[nodiscard]] entry* find(const dibs::gid& peer) noexcept;
  entry& add(const dibs::gid& peer, std::uint32_t link_id) noexcept;

  dibs::shared_lock lock_;
  std::array<entry, capacity> entries_{};
  std::uint32_t next_ = 0;     // the oldest entry makes room
  std::uint32_t counter_ = 0;  // link ids step by 256, as Linux counts them
};

}  // namespace smcd
