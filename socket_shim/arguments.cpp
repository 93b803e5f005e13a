// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/arguments.hpp>

namespace shim {

std::size_t size_of(const iovec* parts, std::size_t count) noexcept {
  if (count > IOV_MAX || !is_readable(parts, count * sizeof *parts)) return unsound;
  std::size_t size = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (parts[i].iov_len > SSIZE_MAX || !is_possible(parts[i].iov_base)) return unsound;
    size += parts[i].iov_len;
    size = std::min(size, most_at_once);
  }
  return size;
}

std::size_t size_of(const msghdr* message) noexcept {
  if (!is_readable(message, sizeof *message) || static_cast<int>(message->msg_namelen) < 0) {
    return unsound;
  }
  return size_of(message->msg_iov, message->msg_iovlen);
}

}  // namespace shim
