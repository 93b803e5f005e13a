// SPDX-License-Identifier: Apache-2.0
// Both directions of both ends at once, a thread each, from the first byte to
// the last: handshake, switch, full rings, end. One stack for both ends, so
// that TSan sees one mapping.
#include <smcd/connection.hpp>

#include <devices/ticks.hpp>
#include <support/random.hpp>
#include <support/two_ends.hpp>

#include <doctest/doctest.h>

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

using support::end_point;
using support::stack_options;
using support::two_ends;
using support::two_stacks;

namespace {

constexpr std::uint64_t longest = 20'000'000 * dibs::ticks_per_us;

std::byte byte_at(std::uint64_t place, std::uint64_t salt) {
  return static_cast<std::byte>((place + salt) * 0x9E3779B97F4A7C15 >> 40);
}

// False if it failed or stood still.
bool write_all(end_point& end, std::uint64_t salt, std::uint64_t size) {
  const std::uint64_t deadline = dibs::ticks() + longest;
  support::random random(salt);
  std::vector<std::byte> bytes;
  for (std::uint64_t at = 0; at < size;) {
    const std::uint64_t most = std::min<std::uint64_t>(size - at, 1 + random.up_to(100'000));
    bytes.resize(static_cast<std::size_t>(most));
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_at(at + i, salt);
    const std::uint64_t now = dibs::ticks();
    const auto sent = end.write(bytes, now);
    if (sent) {
      at += *sent;
      continue;
    }
    if (!dibs::is_would_block(sent.error()) || now > deadline) return false;
    if (random.one_in(4)) static_cast<void>(end.connection.has_room(end.tcp, now));
    if (!end.connection.room_hint()) ::sched_yield();
  }
  end.shutdown_write();
  return true;
}

bool read_all(end_point& end, std::uint64_t salt, std::uint64_t size) {
  const std::uint64_t deadline = dibs::ticks() + longest;
  support::random random(~salt);
  std::vector<std::byte> bytes;
  for (std::uint64_t at = 0;;) {
    bytes.resize(1 + random.up_to(150'000));
    const bool is_peek = random.one_in(16);
    const std::uint64_t now = dibs::ticks();
    const auto got = end.read(bytes, is_peek, now);
    if (!got) {
      if (!dibs::is_would_block(got.error()) || now > deadline) return false;
      if (random.one_in(4)) static_cast<void>(end.connection.has_input(end.tcp));
      if (!end.connection.input_hint()) ::sched_yield();
      continue;
    }
    if (*got == 0) return at == size;
    if (*got > size - at) return false;
    for (std::size_t i = 0; i < *got; ++i) {
      if (bytes[i] != byte_at(at + i, salt)) return false;
    }
    if (!is_peek) at += *got;
  }
}

}  // namespace

TEST_CASE("threads: four of them on one connection lose nothing, whenever one end wants TCP") {
  two_stacks stacks(stack_options{.patience_us = 100}, true);
  std::uint64_t dmb_bytes = 0;
  std::uint64_t dmb_bytes_of_young = 0;
  for (int round = 0; round < 12; ++round) {
    CAPTURE(round);
    // Rings of chaos are tiny, and slow.
    const std::uint64_t much = dibs::chaos::is_on() ? 600'000 : 6'000'000;
    const std::uint64_t size = round % 3 == 0 ? much : much / 20;
    support::ends_options how;
    how.are_young = round % 2 == 0;
    two_ends ends(stacks, how);
    std::atomic<int> wrong{0};
    const auto salt = static_cast<std::uint64_t>(round);
    const auto run = [&](auto body, end_point& end, std::uint64_t of) {
      return std::thread([&, body, of] { wrong += body(end, of, size) ? 0 : 1; });
    };
    std::vector<std::thread> threads;
    threads.push_back(run(write_all, ends.client, salt));
    threads.push_back(run(read_all, ends.server, salt));
    threads.push_back(run(write_all, ends.server, salt + 100));
    threads.push_back(run(read_all, ends.client, salt + 100));
    if (round % 4 == 3) {
      end_point& end = round % 8 == 3 ? ends.client : ends.server;
      for (int i = 0; i < 20 * round; ++i) ::sched_yield();
      end.connection.stay_on_tcp(smcd::decline_code::option_unsupported);
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
    if (ends.server.connection.is_young()) continue;  // for want of memory
    (how.are_young ? dmb_bytes_of_young : dmb_bytes) +=
        ends.server.connection.state().receiving.dmb_bytes();
  }
  if (dibs::chaos::is_on()) return;
  // It is worth something only if the lanes were used.
  CHECK(dmb_bytes > 1'000'000);
  CHECK(dmb_bytes_of_young > 1'000'000);
}
