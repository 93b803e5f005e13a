// SPDX-License-Identifier: Apache-2.0
#pragma once
// Both ends of a connection in one process: two stacks on a scratch fabric, a
// client and a server over a fake TCP connection.

#include <devices/chaos.hpp>
#include <devices/ticks.hpp>
#include <smcd/connection.hpp>

#include <support/fake_tcp.hpp>
#include <support/require.hpp>
#include <support/scratch_fabric.hpp>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace support {

struct stack_options {
  std::uint32_t buffer_size = 16 * 1024;
  std::uint32_t switch_calls = 1;
  std::uint32_t switch_bytes = 1;
  std::uint32_t patience_us = 0;
  std::uint32_t clc_patience_us = 5000;
  const char* ueid = nullptr;  // instead of the one that everybody has
};

inline std::unique_ptr<smcd::stack> make_stack(const scratch_fabric& in,
                                               const stack_options& options = {}) {
  smcd::config settings;
  in.directory().copy(settings.fabric.data(), settings.fabric.size() - 1);
  settings.buffer_size = options.buffer_size;
  settings.switch_calls = options.switch_calls;
  settings.switch_bytes = options.switch_bytes;
  settings.patience_us = options.patience_us;
  settings.clc_patience_us = options.clc_patience_us;
  if (options.ueid != nullptr) settings.ueids[0] = smcd::padded_eid(options.ueid);
  auto made = std::make_unique<smcd::stack>(settings);
  const smcd::error_code failure = made->open();
  require(!failure, failure.message());
  return made;
}

// Time for calls that take it. A step is longer than any patience, so that no
// call relies on what an earlier one saw.
class fake_clock {
 public:
  static constexpr std::uint64_t step = std::uint64_t{1'000'000} * dibs::ticks_per_us;

  std::uint64_t now() { return now_ += step; }
  [[nodiscard]] std::uint64_t same() const { return now_; }

 private:
  std::uint64_t now_ = step;
};

struct two_stacks {
  explicit two_stacks(const stack_options& options = {}, bool is_shared = false)
      : first(make_stack(fabric, options)),
        second(is_shared ? nullptr : make_stack(fabric, options)) {}
  two_stacks(const stack_options& for_client, const stack_options& for_server)
      : first(make_stack(fabric, for_client)), second(make_stack(fabric, for_server)) {}
  two_stacks(const stack_options& options, const std::filesystem::path& in)
      : fabric(in), first(make_stack(fabric, options)), second(make_stack(fabric, options)) {}

  [[nodiscard]] smcd::stack& of_client() { return *first; }
  // One stack for both: then a DMB has one mapping, as TSan needs it.
  [[nodiscard]] smcd::stack& of_server() { return second ? *second : *first; }

  scratch_fabric fabric;
  std::unique_ptr<smcd::stack> first;
  std::unique_ptr<smcd::stack> second;
};

// One end: the connection, its TCP lane, and calls that take plain bytes.
class end_point {
 public:
  end_point(fake_tcp::end& lane, fake_clock& clock) : tcp(lane), clock_(clock) {}
  end_point(const end_point&) = delete;
  end_point& operator=(const end_point&) = delete;
  ~end_point() {
    if (connection.is_open()) static_cast<void>(close());
  }

  smcd::result<std::size_t> write(std::span<const std::byte> from) {
    return write(from, clock_.now());
  }
  smcd::result<std::size_t> write(std::span<const std::byte> from, std::uint64_t now) {
    const iovec part{const_cast<std::byte*>(from.data()), from.size()};
    return connection.write_some(tcp, {&part, 1}, now);
  }
  smcd::result<std::size_t> write(std::string_view text) {
    return write(std::as_bytes(std::span(text)));
  }
  smcd::result<std::size_t> read(std::span<std::byte> to, bool is_peek = false) {
    return read(to, is_peek, clock_.now());
  }
  smcd::result<std::size_t> read(std::span<std::byte> to, bool is_peek, std::uint64_t now) {
    const iovec part{to.data(), to.size()};
    return connection.read_some(tcp, {&part, 1}, is_peek, now);
  }
  // What one read gives, at most `most`; "(wait)" for would_block, "(end)" for
  // the end of the stream, "(<message>)" for an error.
  std::string read_text(std::size_t most = 4096, bool is_peek = false) {
    std::vector<std::byte> to(most);
    const auto got = read(to, is_peek);
    if (!got) {
      return dibs::is_would_block(got.error()) ? "(wait)" : "(" + got.error().message() + ")";
    }
    if (*got == 0) return "(end)";
    return {reinterpret_cast<const char*>(to.data()), *got};
  }

  void shutdown_write() {
    connection.shutdown_write();
    connection.settle_shutdown(tcp);
    tcp.shutdown_write();
  }
  // As a driver does it: the connection's end first, then the socket's.
  void shutdown_both() {
    connection.shutdown_read();
    connection.shutdown_write();
    connection.settle_shutdown(tcp);
    tcp.shutdown_both();
  }
  smcd::connection::close_way close() {
    const auto way = connection.close(tcp);
    if (way == smcd::connection::close_way::reset) {
      tcp.reset();
    } else {
      tcp.close();
    }
    return way;
  }
  // kill -9: the socket closes, and nobody says goodbye in memory.
  void vanish() {
    if (tcp.pending() > 0) {
      tcp.reset();
    } else {
      tcp.close();
    }
  }

  [[nodiscard]] smcd::end_stage stage() const { return connection.state().stage.load(); }
  [[nodiscard]] dibs::record_side& side() const {
    return is_client() ? record().client : record().server;
  }
  [[nodiscard]] dibs::record& record() const {
    auto* at = meeting->record_at(connection.state().record_index);
    require(at != nullptr, "the record has memory");
    return *at;
  }
  [[nodiscard]] bool is_client() const { return role == smcd::handshake_role::client; }

  smcd::connection connection;
  fake_tcp::end& tcp;
  dibs::rendezvous* meeting = nullptr;
  smcd::handshake_role role = smcd::handshake_role::client;

 private:
  fake_clock& clock_;
};

struct ends_options {
  fake_tcp_rules rules;
  bool client_may_switch = true;
  bool server_may_switch = true;
  bool are_young = false;  // else they have grown up before the first byte
};

class two_ends {
 public:
  explicit two_ends(const stack_options& options = {}, const ends_options& how = {})
      : own_(std::make_unique<two_stacks>(options)), stacks_(*own_), fake_(how.rules) {
    open(how);
  }
  explicit two_ends(two_stacks& on, const ends_options& how = {}) : stacks_(on), fake_(how.rules) {
    open(how);
  }

  // Calls of both ends that move no bytes, until SMC-D stands in both
  // directions. False if that does not happen.
  bool establish() {
    std::byte one{};
    // Two bytes there and back make it due.
    static_cast<void>(client.write("?"));
    for (int i = 0; i < 2000; ++i) {
      client.connection.advance(client.tcp);
      server.connection.advance(server.tcp);
      if (!was_asked_ && value_or(server.read({&one, 1}, false), std::size_t{0}) == 1) {
        was_asked_ = true;
        static_cast<void>(server.write("!"));
      }
      if (was_asked_ && !was_answered_ &&
          value_or(client.read({&one, 1}, false), std::size_t{0}) == 1) {
        was_answered_ = true;
      }
      static_cast<void>(server.connection.has_input(server.tcp));
      static_cast<void>(client.connection.has_input(client.tcp));
      if (was_answered_ && server.connection.is_established() &&
          client.connection.is_established() && client.connection.sends_on() == smcd::lane::dmb &&
          server.connection.sends_on() == smcd::lane::dmb) {
        return true;
      }
    }
    return false;
  }

  [[nodiscard]] two_stacks& stacks() { return stacks_; }
  [[nodiscard]] fake_clock& clock() { return clock_; }

 private:
  void open(const ends_options& how) {
    static std::atomic<std::uint16_t> port{1};
    const dibs::inet_address there = dibs::v4_address(0x7F000001, 80);
    const std::uint16_t mine = port++;
    const dibs::inet_address here = dibs::v4_address(0x7F000001, mine);
    client.meeting = &stacks_.of_client().meeting();
    server.meeting = &stacks_.of_server().meeting();
    server.role = smcd::handshake_role::server;
    client.tcp.identity = {1, std::uint64_t{mine} * 2, here};
    server.tcp.identity = {1, std::uint64_t{mine} * 2 + 1, there};
    client.connection.open(stacks_.of_client(), client.role, there, how.client_may_switch, false);
    server.connection.open(stacks_.of_server(), server.role, here, how.server_may_switch, false);
    if (how.are_young) return;
    for (end_point* end : {&client, &server}) {
      end->connection.grow_up(end->tcp);
      require(!end->connection.is_young() || dibs::chaos::is_on(), "there is room for ends");
    }
  }

  std::unique_ptr<two_stacks> own_;
  two_stacks& stacks_;
  fake_tcp fake_;
  fake_clock clock_;
  bool was_asked_ = false;
  bool was_answered_ = false;

 public:
  end_point client{fake_.client, clock_};
  end_point server{fake_.server, clock_};
};

}  // namespace support
