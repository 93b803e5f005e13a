// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a program tells the one that takes its place: which of the connections
// that go along nobody else holds. Those may leave TCP again; of others nobody
// knows who reads them. It stands in the environment, for a moment: the library
// takes it out before the program begins.

#include <smcd/handshake.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

namespace shim {

class inheritance {
 public:
  // `program`: as exec is given it, or null where that has no name. `environment`:
  // of the new program. Neither is copied.
  inheritance(const char* program, char* const* environment) noexcept
      : program_(program), environment_(environment) {}

  // Will the new program begin with this library?
  [[nodiscard]] bool is_possible() const noexcept;
  // Requires that it is possible. What does not fit is left out.
  void add(int fd, smcd::handshake_role, std::uint64_t cookie) noexcept;

  // How many pointers fill() writes, the null among them; 0 if `environment` is
  // right as it is.
  [[nodiscard]] std::size_t size() const noexcept;
  // Requires size() > 0. Uses this object's memory.
  void fill(char** to) noexcept;

 private:
  const char* program_;
  char* const* environment_;
  std::array<char, 4096> text_;
  std::size_t used_ = 0;
};

// Once, before the program begins.
void take_inheritance() noexcept;

}  // namespace shim
