// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where streams come from: listen, connect and accept, and the rendezvous.

#include <sys/socket.h>

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

}  // namespace shim
