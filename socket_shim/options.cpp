// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/options.hpp>

#include <socket_shim/meet.hpp>
#include <socket_shim/process.hpp>
#include <socket_shim/real.hpp>

#include <linux/tcp.h>
#include <netinet/in.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace shim {
namespace {

// Options that bind a connection to the kernel's TCP: rules for the network,
// and news that only its packets can bring.
bool binds_to_tcp(int level, int name) noexcept {
  if (level == SOL_SOCKET) {
    switch (name) {
      case SO_ZEROCOPY:
      case SO_MARK:
      case SO_BINDTODEVICE:
      case SO_ATTACH_FILTER:
      case SO_ATTACH_BPF:
      case SO_TIMESTAMPING_OLD:
      case SO_TIMESTAMPING_NEW:
      case SO_TIMESTAMP_OLD:
      case SO_TIMESTAMP_NEW:
      case SO_TIMESTAMPNS_OLD:
      case SO_TIMESTAMPNS_NEW:
      case SO_PEEK_OFF:
      case SO_MAX_PACING_RATE:
      case SO_TXTIME:
      case SO_RCVLOWAT: return true;
      default: return false;
    }
  }
  return level == IPPROTO_TCP &&
         (name == TCP_REPAIR || name == TCP_MD5SIG || name == TCP_MD5SIG_EXT || name == TCP_INQ);
}

void add(void* info, socklen_t size, std::size_t at, std::int64_t more) noexcept {
  std::uint64_t count = 0;
  if (at + sizeof count > size) return;  // an older program asks for less
  auto* place = static_cast<std::byte*>(info) + at;
  std::memcpy(&count, place, sizeof count);
  count += static_cast<std::uint64_t>(more);
  std::memcpy(place, &count, sizeof count);
}

}  // namespace

void follow_option(int fd, int level, int name) noexcept {
  const pinned known = self.find_live(fd);
  if (!known) return;
  if (level == SOL_SOCKET && name == SO_RCVTIMEO) {
    known->receive_timeout_us.store(endpoint::not_asked, std::memory_order_relaxed);
  } else if (level == SOL_SOCKET && name == SO_SNDTIMEO) {
    known->send_timeout_us.store(endpoint::not_asked, std::memory_order_relaxed);
  } else if (binds_to_tcp(level, name)) {
    int mark = 0;
    socklen_t size = sizeof mark;
    if (level == SOL_SOCKET && name == SO_RCVLOWAT &&
        real.getsockopt(fd, level, name, &mark, &size) == 0) {
      known->low_mark.store(mark > 1 ? static_cast<std::size_t>(mark) : 1,
                            std::memory_order_relaxed);
    }
    self.retire(fd);
  }
}

void before_setting(int fd, int level, int name) noexcept {
  // The kernel takes over what is said on the connection (kTLS).
  if (level == IPPROTO_TCP && name == TCP_ULP) {
    self.give_to_kernel(fd, process::after_leaving::is_over);
  }
}

void before_asking(int fd, int level, int name) noexcept {
  // Takes bytes out of the socket.
  if (level == IPPROTO_TCP && name == TCP_ZEROCOPY_RECEIVE) {
    self.give_to_kernel(fd, process::after_leaving::is_over);
  }
}

void complete_option(int fd, int level, int name, void* value, socklen_t size) noexcept {
  const bool is_error = level == SOL_SOCKET && name == SO_ERROR && size >= sizeof(int);
  const bool is_info = level == IPPROTO_TCP && name == TCP_INFO;
  // Programs look at what they were given before they use it.
  if (level == SOL_SOCKET && name == SO_ACCEPTCONN && self.find(fd) == nullptr) adopt_listener(fd);
  if (!is_error && !is_info) return;
  const pinned known = self.find_live(fd);
  if (!known) return;
  if (is_error) {
    // The kernel tells of an error once, and told it to us.
    int& told = *static_cast<int*>(value);
    if (told == 0) told = known->link.take_error();
    return;
  }
  const std::int64_t received = known->link.received_besides();
  const std::int64_t sent = known->link.sent_besides();
  add(value, size, offsetof(tcp_info, tcpi_bytes_received), received);
  add(value, size, offsetof(tcp_info, tcpi_bytes_sent), sent);
  add(value, size, offsetof(tcp_info, tcpi_bytes_acked), sent);
}

}  // namespace shim
