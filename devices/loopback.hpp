// SPDX-License-Identifier: Apache-2.0
#pragma once
// The loopback device: one process's end of a fabric that is a directory.
// Zero set-up, no daemon. Whoever may open the directory is trusted.

#include <devices/device.hpp>
#include <devices/fabric.hpp>
#include <devices/lock.hpp>
#include <devices/segment.hpp>

namespace dibs {

// Any thread. Memory comes straight from the kernel, never from malloc: this
// runs inside programs that we do not know, also in their signal handlers.
// A handler that meets a call of its own thread gets errc::fabric_unusable.
class loopback final : public device {
 public:
  // The gid's home file must stand in the fabric already.
  loopback(const fabric& in, const gid& id) noexcept : fabric_(in), id_(id) {}
  loopback(const loopback&) = delete;
  loopback& operator=(const loopback&) = delete;
  ~loopback() override;

  [[nodiscard]] fabric_id chid() const noexcept override { return loopback_fabric; }
  [[nodiscard]] gid id() const noexcept override { return id_; }
  [[nodiscard]] bool query_remote_gid(const gid&) const noexcept override;
  [[nodiscard]] std::uint32_t max_dmbs() const noexcept override { return 16384; }
  [[nodiscard]] result<dmb> register_dmb(const gid& writer, std::uint32_t size) noexcept override;
  void unregister_dmb(const gid& writer, dmb_token) noexcept override;
  [[nodiscard]] result<dmb> attach_dmb(const gid& owner, dmb_token) noexcept override;
  void detach_dmb(const gid& owner, dmb_token) noexcept override;
  [[nodiscard]] error_code move_data(const gid& owner, dmb_token, std::uint32_t offset,
                                     std::span<const std::byte>) noexcept override;

 private:
  // The memory shared with one peer, both directions.
  struct peer {
    gid id;
    segment inbound;   // we own, the peer writes
    segment outbound;  // the peer owns, we write
    std::uint32_t attached = 0;
    peer* next = nullptr;
  };
  [[nodiscard]] peer* find(const gid&) noexcept;
  [[nodiscard]] peer* find_or_add(const gid&) noexcept;
  void drop_dead_peers() noexcept;

  fabric fabric_;
  gid id_;
  shared_lock lock_;
  peer* peers_ = nullptr;
  std::uint32_t registered_ = 0;
};

}  // namespace dibs
