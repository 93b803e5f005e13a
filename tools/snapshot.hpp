// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands in a fabric at one moment: the connection ends of every living
// device, and the listeners. Only read, never written, and nothing in it is
// trusted: each piece is copied once and only the copy is looked at.

#include <devices/fabric.hpp>
#include <devices/ids.hpp>
#include <devices/inet.hpp>
#include <smcd/end.hpp>
#include <smcd/state.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tools {

// The process that a device belongs to, as it says itself.
struct process_entry {
  dibs::gid device;
  std::uint32_t pid = 0;
  std::uint32_t uid = 0;
  std::string command;  // printable ASCII
};

struct traffic {
  smcd::lane on = smcd::lane::tcp;
  std::uint64_t tcp_bytes = 0;
  std::uint64_t dmb_bytes = 0;
};

struct connection_entry {
  process_entry owner;
  dibs::inet_address local;
  dibs::inet_address remote;
  smcd::end_stage stage{};
  smcd::handshake_role role{};
  smcd::decline_code local_reason{};
  smcd::decline_code peer_reason{};
  traffic sending;
  traffic receiving;
  dibs::gid peer;
  std::uint64_t token = 0;
  std::uint64_t peer_token = 0;
  std::uint32_t link_id = 0;
  std::uint32_t record_index = 0;
  // The other end's part in it as far as that end stands in this fabric.
  smcd::life life;
};

struct listener_entry {
  process_entry owner;
  dibs::inet_address local;
};

// Sorted by process, then by addresses.
struct snapshot {
  std::vector<connection_entry> connections;
  std::vector<listener_entry> listeners;
};

// Throws std::runtime_error for a fabric that cannot be read. One without any
// device, or nothing but its directory, is an empty snapshot.
[[nodiscard]] snapshot take_snapshot(const dibs::fabric&);

// ---- in words --------------------------------------------------------------

// smcd/state.hpp, or UNKNOWN.
[[nodiscard]] std::string_view state_name(const connection_entry&) noexcept;
[[nodiscard]] std::string_view stage_name(smcd::end_stage) noexcept;
[[nodiscard]] std::string_view lane_name(smcd::lane) noexcept;
[[nodiscard]] std::string to_text(const dibs::inet_address&);    // 10.0.0.1:80, [::1]:80
[[nodiscard]] std::string host_text(const dibs::inet_address&);  // without the port

}  // namespace tools
