// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where streams come from: listen, connect and accept, and the rendezvous.

#include <smcd/handshake.hpp>

#include <sys/socket.h>

#include <cstdint>

namespace shim {

// After the kernel's listen() succeeded.
void publish_listener(int fd) noexcept;

// A number that we know nothing of is about to be used as a listener may be: if
// it is one, which another program opened before this one began or that was passed
// to it, then it is treated as if this process had called listen(). Asks the
// kernel, which a sandbox may forbid: only where sockets are the matter already.
void adopt_listener(int fd) noexcept;

// The whole of connect(2).
[[nodiscard]] int connect_stream(int fd, const sockaddr* to, socklen_t size);

// The whole of accept4(2).
[[nodiscard]] int accept_stream(int listener, sockaddr* from, socklen_t* size, int flags);

// A connection that another program had in this process, and nobody else has. Does
// nothing unless it is the socket of that SO_COOKIE.
void resume_stream(int fd, smcd::handshake_role role, std::uint64_t cookie) noexcept;

}  // namespace shim
