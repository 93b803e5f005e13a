// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whether memory that a program names is there. The kernel finds out while it
// copies and says EFAULT; we copy ourselves, and would crash. Pages that the
// kernel once vouched for are remembered until the program maps or protects
// anew, so that asking costs next to nothing.

#include <sys/uio.h>

#include <cstddef>
#include <span>

namespace shim {

// Of no bytes: true.
[[nodiscard]] bool is_readable(const void* at, std::size_t size) noexcept;
[[nodiscard]] bool is_writable(const void* at, std::size_t size) noexcept;

// The first `size` bytes of these buffers.
[[nodiscard]] bool is_readable(std::span<const iovec>, std::size_t size) noexcept;
[[nodiscard]] bool is_writable(std::span<const iovec>, std::size_t size) noexcept;

// After the program changed its mappings.
void forget_pages() noexcept;

}  // namespace shim
