// SPDX-License-Identifier: Apache-2.0
#pragma once
// Random programs that a seed brings back.

#include "program.hpp"

namespace oracle {

// Programs of one block run in the same two processes, one after the other.
inline constexpr std::uint64_t block_size = 50;

// The settings of the preload library for a block: when connections leave TCP,
// how much a ring holds.
[[nodiscard]] std::vector<std::string> settings_of(std::uint64_t block);

[[nodiscard]] program generate(std::uint64_t seed);

}  // namespace oracle
