// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a protocol sees of the device layer: devices that hand out DMBs, and
// the registry that tells clients which devices come and go.

#include <devices/error.hpp>
#include <devices/ids.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace dibs {

// A receive buffer: owned by one device, writable by one remote gid. The
// memory is the owner's view; what stands in it was written by a peer.
struct dmb {
  dmb_token token;
  std::span<std::byte> memory;
};

class device {
 public:
  virtual ~device() = default;

  [[nodiscard]] virtual fabric_id chid() const noexcept = 0;
  [[nodiscard]] virtual gid id() const noexcept = 0;
  // Is that device alive and can it be reached from here?
  [[nodiscard]] virtual bool query_remote_gid(const gid&) const noexcept = 0;
  [[nodiscard]] virtual std::uint32_t max_dmbs() const noexcept = 0;

  // Makes a DMB that only `writer` may write. `size` in bytes, a power of two
  // from min_dmb_size to max_dmb_size. Its first 32 bytes are zero, the rest
  // is whatever an earlier use by the same pair left. Only the first
  // reserved_size bytes are sure to have memory. Any thread.
  // errc::no_dmb_left, errc::fabric_full, errc::bad_size.
  [[nodiscard]] virtual result<dmb> register_dmb(const gid& writer,
                                                 std::uint32_t size) noexcept = 0;
  // The token is void from here on; the memory is used again when the writer
  // has detached or died.
  virtual void unregister_dmb(const gid& writer, dmb_token) noexcept = 0;

  // Maps a peer's DMB for direct writing, until detach_dmb. The writer reserves
  // what lies beyond the first reserved_size bytes before it touches it, and
  // gives back what holds nothing (mapping.hpp).
  // errc::unknown_gid, errc::unknown_token, errc::bad_size.
  [[nodiscard]] virtual result<dmb> attach_dmb(const gid& owner, dmb_token) noexcept = 0;
  virtual void detach_dmb(const gid& owner, dmb_token) noexcept = 0;

  // Copies into a DMB that is attached, and reserves what that takes.
  // errc::unknown_token, errc::bad_size, errc::fabric_full.
  [[nodiscard]] virtual error_code move_data(const gid& owner, dmb_token, std::uint32_t offset,
                                             std::span<const std::byte>) noexcept = 0;
};

inline constexpr std::uint32_t min_dmb_size = 16 * 1024;
inline constexpr std::uint32_t max_dmb_size = 4 * 1024 * 1024;
inline constexpr std::uint32_t reserved_size = 8 * 1024;

// A protocol over dibs. Its functions are called by whoever adds or removes a
// device, or registers the client, in that thread.
class client {
 public:
  virtual ~client() = default;
  virtual void add_device(device&) noexcept = 0;
  virtual void remove_device(device&) noexcept = 0;
};

// The devices and clients of one process. Not thread-safe: kept by one owner.
class registry {
 public:
  static constexpr std::size_t max_clients = 8;
  static constexpr std::size_t max_devices = 8;

  // False if all places are taken. A new client is told of every device.
  bool register_client(client&) noexcept;
  void unregister_client(client&) noexcept;
  // False if all places are taken. Every client is told.
  bool add_device(device&) noexcept;
  void remove_device(device&) noexcept;

 private:
  std::array<client*, max_clients> clients_{};
  std::array<device*, max_devices> devices_{};
};

}  // namespace dibs
