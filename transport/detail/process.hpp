// SPDX-License-Identifier: Apache-2.0
#pragma once
// What all sockets of a process share: settings, and its place on the fabric.

#include <smcd/config.hpp>
#include <smcd/stack.hpp>

#include <memory>

namespace dibsock::detail {

// Read from the environment at first use.
[[nodiscard]] const smcd::config& settings() noexcept;

// Entered at first use; null if there is no fabric to be had, or SMC-D is
// switched off. A forked child gets one of its own. Whoever keeps the pointer
// keeps the memory mapped.
[[nodiscard]] std::shared_ptr<smcd::stack> this_stack() noexcept;

// Another one in each child of fork. Costs no system call.
using process_number = int;
[[nodiscard]] process_number this_process() noexcept;

// One line on stderr, if DIBSOCK_LOG wants it.
[[gnu::format(printf, 1, 2)]] void log(const char* format, ...) noexcept;

}  // namespace dibsock::detail
