// SPDX-License-Identifier: Apache-2.0
#pragma once
// Options of a socket that is also a stream. The kernel keeps them; here is what
// it cannot know.

#include <sys/socket.h>

namespace shim {

// After a successful setsockopt(2).
void follow_option(int fd, int level, int name) noexcept;

// Before setsockopt(2).
void before_setting(int fd, int level, int name) noexcept;

// Before and after a successful getsockopt(2): what the kernel says of its own
// bytes becomes true of both lanes.
void before_asking(int fd, int level, int name) noexcept;
void complete_option(int fd, int level, int name, void* value, socklen_t size) noexcept;

}  // namespace shim
