// SPDX-License-Identifier: Apache-2.0
#pragma once
// poll and select over live streams and everything else.

#include <socket_shim/wait.hpp>

#include <poll.h>
#include <sys/select.h>

namespace shim {

// True if one of these needs us; otherwise the kernel's call is right.
[[nodiscard]] bool concerns_us(pollfd* fds, nfds_t count) noexcept;
[[nodiscard]] bool concerns_us(int count, const fd_set* in, const fd_set* out,
                               const fd_set* except) noexcept;

// As ppoll(2) and pselect(2). A thread may be cancelled inside.
[[nodiscard]] int poll_streams(pollfd* fds, nfds_t count, const deadline&, const sigset_t*);
[[nodiscard]] int select_streams(int count, fd_set* in, fd_set* out, fd_set* except,
                                 const deadline&, const sigset_t*);

}  // namespace shim
