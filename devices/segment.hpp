// SPDX-License-Identifier: Apache-2.0
#pragma once
// The shared memory of one direction of a link group: the file
// `<owner>.<writer>.dmb`, a directory of DMBs followed by chunks that hold
// them. It grows by chunks, and DMBs that became free serve later connections
// of the same pair, so that these cost no mmap and few page faults.

#include <devices/device.hpp>
#include <devices/fabric.hpp>
#include <devices/lock.hpp>
#include <devices/mapping.hpp>

#include <array>
#include <atomic>
#include <cstdint>

namespace dibs {

// Writer: the owner, except `attached`, which the writer of the DMB sets.
struct dmb_entry {
  std::atomic<std::uint64_t> token;  // 0: not registered
  std::uint64_t offset;              // in the file
  std::uint32_t size;
  std::atomic<std::uint32_t> attached;
  std::uint64_t reserved;
};
static_assert(sizeof(dmb_entry) == 32);

class segment {
 public:
  static constexpr std::uint32_t max_entries = 2047;
  static constexpr std::uint32_t chunk_size = max_dmb_size;
  static constexpr std::uint32_t max_chunks = 256;

  segment() noexcept = default;

  // The owner's end: makes the file.
  [[nodiscard]] static error_code create(segment&, const fabric&, const gid& owner,
                                         const gid& writer) noexcept;
  // The writer's end: maps what the owner made.
  [[nodiscard]] static error_code open(segment&, const fabric&, const gid& owner,
                                       const gid& writer) noexcept;
  // Unmaps everything. The owner's end also removes the file.
  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept { return directory_.is_mapped(); }

  // Owner.
  [[nodiscard]] result<dmb> register_dmb(std::uint32_t size) noexcept;
  void unregister_dmb(dmb_token) noexcept;
  // True if no DMB is registered, and none attached as far as it still counts.
  [[nodiscard]] bool is_idle(bool writer_is_dead) const noexcept;

  // Writer, or the owner itself when both are the same device.
  [[nodiscard]] result<dmb> attach(dmb_token) noexcept;
  void detach(dmb_token) noexcept;
  // What attach() gave, while it is attached. errc::unknown_token.
  [[nodiscard]] result<dmb> attached_view(dmb_token) noexcept;

 private:
  struct header;
  [[nodiscard]] dmb_entry& entry(std::uint32_t index) const noexcept;
  [[nodiscard]] result<std::uint32_t> add_entry(std::uint32_t size) noexcept;
  [[nodiscard]] result<std::byte*> map_chunk(std::uint32_t chunk) noexcept;
  [[nodiscard]] result<dmb> view(dmb_token, std::uint64_t offset, std::uint32_t size) noexcept;
  [[nodiscard]] result<unique_fd> open_file() const noexcept;

  fabric::path_text path_{};
  mapping directory_;
  std::uint64_t inode_ = 0;
  bool is_owner_ = false;
  std::array<mapping, max_chunks> chunks_;
  // Owner: the size of the DMBs in each chunk, and how many are made of it.
  struct chunk_use {
    std::uint32_t size = 0;
    std::uint32_t made = 0;
  };
  std::array<chunk_use, max_chunks> uses_{};
};

}  // namespace dibs
