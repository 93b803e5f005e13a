// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a worker can be asked to do.

#include <array>
#include <cstddef>
#include <string_view>

namespace bench {

enum class kind {
  ping,     // round trips on one connection
  stream,   // one way on one connection
  connect,  // connections, each with one request
  open,     // connections that carry nothing
  many,     // round trips on many connections at once, in one thread
  idle,     // many connections that are left alone
  program,  // not our workers: somebody else's programs
};

inline constexpr std::array<std::string_view, 7> kind_names{"ping", "stream", "connect", "open",
                                                            "many", "idle",   "program"};

[[nodiscard]] constexpr std::string_view name_of(kind which) noexcept {
  return kind_names[static_cast<std::size_t>(which)];
}

}  // namespace bench
