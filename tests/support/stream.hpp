// SPDX-License-Identifier: Apache-2.0
#pragma once
// One direction of a connection with bytes that know their place: each read is
// checked against what must stand there, so nothing is lost, doubled or moved.

#include <support/two_ends.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace support {

class stream {
 public:
  enum class outcome { moved, wait, end, failed };

  stream(end_point& from, end_point& to) : from_(from), to_(to), salt_(from.is_client() ? 1 : 7) {}

  [[nodiscard]] std::byte byte_at(std::uint64_t place) const {
    return static_cast<std::byte>((place + salt_) * 0x9E3779B97F4A7C15 >> 40);
  }

  outcome write(std::size_t most) {
    std::vector<std::byte> bytes(most);
    for (std::size_t i = 0; i < most; ++i) bytes[i] = byte_at(written + i);
    const auto sent = from_.write(bytes);
    if (sent) written += *sent;
    return note(sent, most);
  }
  outcome read(std::size_t most, bool is_peek = false) {
    std::vector<std::byte> bytes(most);
    const auto got = to_.read(bytes, is_peek);
    if (got) check(std::span(bytes).first(*got));
    if (got && !is_peek) taken += *got;
    const bool is_end = got && *got == 0 && most > 0;
    const outcome last = is_end ? outcome::end : note(got, most);
    if ((last == outcome::end || last == outcome::failed) && taken != written) {
      problem = "over after " + std::to_string(taken) + " of " + std::to_string(written) + " bytes";
    }
    return last;
  }
  // Until nothing more comes, though asked for again. The last outcome.
  outcome read_all(std::size_t most = 4096) {
    outcome last = outcome::moved;
    for (int waits = 0; waits < 50 && problem.empty();) {
      last = read(most);
      if (last == outcome::end || last == outcome::failed) break;
      waits = last == outcome::wait ? waits + 1 : 0;
    }
    return last;
  }
  // Writes so much, and reads whenever that is needed to go on. False if it
  // stands still.
  [[nodiscard]] bool carry(std::size_t size) {
    const std::uint64_t goal = written + size;
    for (int idle = 0; taken < goal && idle < 1000 && problem.empty();) {
      const std::uint64_t before = written + taken;
      if (written < goal) write(static_cast<std::size_t>(goal - written));
      read(4096);
      idle = written + taken == before ? idle + 1 : 0;
    }
    return taken == goal && problem.empty();
  }

  std::uint64_t written = 0;
  std::uint64_t taken = 0;
  std::string problem;  // empty, or which byte was wrong
  dibs::error_code failure;

 private:
  void check(std::span<const std::byte> bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] == byte_at(taken + i) && taken + i < written) continue;
      problem =
          "byte " + std::to_string(taken + i) + " of " + std::to_string(written) + " is wrong";
      return;
    }
  }
  template <class Result>
  outcome note(const Result& moved, std::size_t wanted) {
    if (moved) return *moved == 0 && wanted > 0 ? outcome::wait : outcome::moved;
    if (dibs::is_would_block(moved.error())) return outcome::wait;
    failure = moved.error();
    return outcome::failed;
  }

  end_point& from_;
  end_point& to_;
  std::uint64_t salt_;
};

}  // namespace support
