// SPDX-License-Identifier: Apache-2.0
#pragma once
// The measuring loops, the same code for every transport that blocks. A
// transport is two types:
//   Side    Side(const task&); Stream accept(); Stream connect();
//           a server says "ready ADDRESS" when it listens
//   Stream  read(to) -> bytes, 0 at the end; write(all of from); shut_down();
//           kernel_bytes() -> bytes that went through a TCP socket, if it has one
// Both throw when something fails. Closing is the Stream's destructor.

#include <worker/measurement.hpp>
#include <worker/task.hpp>

#include <cstddef>
#include <exception>
#include <span>
#include <stdexcept>
#include <vector>

namespace bench {

using message = std::vector<std::byte>;

// What the first byte of a request says if no other connection will come.
inline constexpr std::byte last_call{1};

[[nodiscard]] inline std::runtime_error server_left() {
  return std::runtime_error("the server left");
}

[[nodiscard]] inline std::size_t messages_per_round(const task& how) noexcept {
  return how.size < 4096 ? 4096 / how.size : 1;
}

// False: the stream ended before the message did.
template <class Stream>
bool read_message(Stream& from, std::span<std::byte> to) {
  while (!to.empty()) {
    const std::size_t got = from.read(to);
    if (got == 0) return false;
    to = to.subspan(got);
  }
  return true;
}

// ---- round trips -----------------------------------------------------------

template <class Stream>
void ping(Stream peer, const task& how) {
  message bytes(how.size);
  measurement measured(how, [&] { return peer.kernel_bytes(); });
  while (measured.again()) {
    if (how.gap_us > 0) {
      sleep_us(how.gap_us);
      measured.begin_round();
    }
    peer.write(bytes);
    if (!read_message(peer, bytes)) throw server_left();
  }
  measured.report(2 * how.size);
}

template <class Stream>
void echo(Stream peer, const task& how) {
  message bytes(how.size);
  const cpu_watch cpu;
  while (read_message(peer, bytes)) peer.write(bytes);
  say("cpu", cpu.share());
}

// ---- one way ---------------------------------------------------------------

// A round is as many messages as it takes not to notice the clock. It stops
// when the server says that it has everything.
template <class Stream>
void flood(Stream peer, const task& how) {
  message bytes(how.size);
  const std::size_t messages = messages_per_round(how);
  measurement measured(how, [&] { return peer.kernel_bytes(); });
  while (measured.again()) {
    for (std::size_t i = 0; i < messages; ++i) peer.write(bytes);
  }
  peer.shut_down();
  std::byte done{};
  if (peer.read({&done, 1}) != 1) throw server_left();
  measured.stop();
  measured.report(how.size * messages, messages);
}

template <class Stream>
void drain(Stream peer, const task& how) {
  message bytes(how.size);
  const cpu_watch cpu;
  while (read_message(peer, bytes)) {
  }
  say("cpu", cpu.share());
  peer.write(std::span(bytes).first(1));
}

// ---- set-up ----------------------------------------------------------------

// A connection each time: connect, ask, hear, close. The last one says so.
template <class Side>
void call_again(Side& side, const task& how) {
  message bytes(how.size);
  measurement measured(how);
  for (bool is_last = false; !is_last;) {
    is_last = !measured.again();
    bytes[0] = is_last ? last_call : std::byte{0};
    auto peer = side.connect();
    peer.write(bytes);
    if (!read_message(peer, bytes)) throw server_left();
  }
  measured.report(0);
}

template <class Side>
void answer_calls(Side& side, const task& how) {
  message bytes(how.size);
  const cpu_watch cpu;
  do {
    auto peer = side.accept();
    if (!read_message(peer, bytes)) continue;
    peer.write(bytes);
    std::byte end{};
    static_cast<void>(peer.read({&end, 1}));
  } while (bytes[0] != last_call);
  say("cpu", cpu.share());
}

// Connections that carry nothing, but the last one, which says that it is.
template <class Side>
void open_again(Side& side, const task& how) {
  measurement measured(how);
  while (measured.again()) static_cast<void>(side.connect());
  measured.report(0);
  side.connect().write(std::span(&last_call, 1));
}

template <class Side>
void accept_again(Side& side) {
  std::byte said{};
  const cpu_watch cpu;
  do {
    auto peer = side.accept();
    static_cast<void>(peer.read({&said, 1}));
  } while (said != last_call);
  say("cpu", cpu.share());
}

// ---- all of it -------------------------------------------------------------

// Many connections are no business of loops that block.
[[noreturn]] inline void refuse() { throw std::invalid_argument("this worker cannot do that"); }

template <class Side>
void serve(const task& how) {
  Side side(how);
  switch (how.what) {
    case kind::ping: return echo(side.accept(), how);
    case kind::stream: return drain(side.accept(), how);
    case kind::connect: return answer_calls(side, how);
    case kind::open: return accept_again(side);
    default: refuse();
  }
}

template <class Side>
void ask(const task& how) {
  Side side(how);
  switch (how.what) {
    case kind::ping: return ping(side.connect(), how);
    case kind::stream: return flood(side.connect(), how);
    case kind::connect: return call_again(side, how);
    case kind::open: return open_again(side, how);
    default: refuse();
  }
}

// The body of a worker's main().
template <class Work>
int run_worker(int count, char** values, Work work) {
  try {
    static_cast<void>(ns_per_tick());
    work(parse(count, values));
    return 0;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s: %s\n", values[0], failure.what());
    return 1;
  }
}

template <class Side>
void work(const task& how) {
  how.is_server ? serve<Side>(how) : ask<Side>(how);
}

}  // namespace bench
