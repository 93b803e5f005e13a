// SPDX-License-Identifier: Apache-2.0
#pragma once
// SMC-D of one process: its configuration, its device on the fabric, and what
// connections share. There is one per process; a forked child makes its own
// and keeps the parent's mapped for the connections that it inherited.

#include <devices/event_queue.hpp>
#include <devices/fabric.hpp>
#include <devices/loopback.hpp>
#include <devices/rendezvous.hpp>
#include <smcd/config.hpp>
#include <smcd/error.hpp>
#include <smcd/handshake.hpp>
#include <smcd/home.hpp>
#include <smcd/link_group.hpp>

#include <atomic>
#include <optional>

namespace smcd {

class stack {
 public:
  // Call open() before anything else.
  explicit stack(const config& settings) noexcept : settings_(settings) {}
  stack(const stack&) = delete;
  stack& operator=(const stack&) = delete;
  ~stack() { leave(); }

  // Leaves the fabric: no other process will find this one any more. What is
  // mapped stays usable.
  void leave() noexcept;

  // Enters the fabric and removes what dead devices left there. An error means
  // that every connection stays on TCP.
  [[nodiscard]] error_code open() noexcept;

  [[nodiscard]] const config& settings() const noexcept { return settings_; }
  [[nodiscard]] const identity& self() const noexcept { return self_; }
  [[nodiscard]] dibs::rendezvous& meeting() noexcept { return rendezvous_; }
  [[nodiscard]] dibs::device& device() noexcept { return *device_; }
  [[nodiscard]] dibs::event_queues& queues() noexcept { return queues_; }
  [[nodiscard]] dibs::signaller& signals() noexcept { return signals_; }
  [[nodiscard]] home& ends() noexcept { return home_; }
  [[nodiscard]] link_groups& groups() noexcept { return groups_; }

  // Does somebody listen at `remote` who speaks SMC-D? Looked up in the network
  // namespace that ask_netns() tells of the first time, which is right but for
  // processes that change theirs. So only a hint.
  template <class AskNetns>
  [[nodiscard]] bool may_meet(const dibs::inet_address& remote, AskNetns ask_netns) noexcept {
    std::uint64_t netns = netns_.load(std::memory_order_relaxed);
    if (netns == 0) {
      netns = ask_netns();
      netns_.store(netns, std::memory_order_relaxed);
    }
    return rendezvous_.find_listener(netns, remote) != nullptr;
  }

 private:
  void sweep() noexcept;
  void name_host() noexcept;

  config settings_;
  identity self_{};
  dibs::fabric fabric_;
  dibs::rendezvous rendezvous_;
  home home_;
  dibs::event_queues queues_;
  dibs::signaller signals_;
  std::optional<dibs::loopback> device_;
  link_groups groups_;
  bool is_entered_ = false;
  std::atomic<std::uint64_t> netns_{0};
};

}  // namespace smcd
