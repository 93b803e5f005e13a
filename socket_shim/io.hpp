// SPDX-License-Identifier: Apache-2.0
#pragma once
// What recv and send mean on a live stream: the flags, blocking and timeouts
// of the kernel's calls over the two lanes. All set errno and give what the
// libc call gives. The caller has
// pinned the stream once. A thread that is cancelled while it waits ends here.

#include <smcd/connection.hpp>
#include <smcd/ring.hpp>
#include <socket_shim/fd_table.hpp>

#include <sys/types.h>

namespace shim {

// Instead of an answer: the number stands for another socket by now, whose last
// close nobody saw. The kernel's call is right then.
inline constexpr ssize_t not_ours = -2;

// Short messages between buffers of the program and the rings, where nothing is in
// the way. 0: take the way above, which finds out what is.
[[nodiscard]] ssize_t receive_short(int fd, void* to, std::size_t size, int flags);
[[nodiscard]] ssize_t transmit_short(int fd, const void* from, std::size_t size, int flags);
// `size`: of all these buffers, in a list that can be read.
[[nodiscard]] ssize_t transmit_short(int fd, smcd::buffers from, std::size_t size, int flags);

[[nodiscard]] ssize_t receive(endpoint&, int fd, smcd::buffers, int flags);
[[nodiscard]] ssize_t transmit(endpoint&, int fd, smcd::buffers, int flags);
// Bytes that `fill` puts into the ring itself. 0: go another way.
[[nodiscard]] std::size_t transmit_in_place(endpoint&, int fd, std::size_t most,
                                            smcd::connection::filler fill, void* of) noexcept;
// sendfile(2) into a stream, and splice(2) out of one.
[[nodiscard]] ssize_t transmit_file(endpoint&, int fd, int from, off64_t* offset,
                                    std::size_t count);
[[nodiscard]] ssize_t receive_to_pipe(endpoint&, int fd, int to, std::size_t size, unsigned flags);

}  // namespace shim
