// SPDX-License-Identifier: Apache-2.0
#include <worker/tcp_bytes.hpp>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bench {

std::optional<std::uint64_t> tcp_bytes(int fd) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info;
  // By number: under the preload library the call counts other bytes too.
  if (::syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  return info.tcpi_bytes_sent + info.tcpi_bytes_received;
}

}  // namespace bench
