// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the kernel says about a TCP connection. Apart from everybody else: its
// header does not get on with those of libc.

#include <cstdint>
#include <optional>

namespace bench {

// Bytes that it carried, both ways. Nothing: it is none.
[[nodiscard]] std::optional<std::uint64_t> tcp_bytes(int fd) noexcept;

}  // namespace bench
