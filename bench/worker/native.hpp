// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the blocking and the asynchronous use of sockets have in common.

#include <transport/acceptor.hpp>
#include <transport/socket.hpp>
#include <worker/task.hpp>
#include <worker/tcp_bytes.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace bench {

namespace asio = boost::asio;
using boost::system::error_code;

[[nodiscard]] inline asio::ip::tcp::endpoint place_of(const task& how) {
  const auto port = static_cast<std::uint16_t>(std::stoul("0" + how.address));
  return {asio::ip::address_v4::loopback(), port};
}

// The same worker measures Asio's own sockets, for comparison.
struct over_dibsock {
  using socket = dibsock::socket;
  using acceptor = dibsock::acceptor;
};
struct over_asio {
  using socket = asio::ip::tcp::socket;
  using acceptor = asio::ip::tcp::acceptor;
};

template <class Acceptor>
void listen(Acceptor& with, const asio::ip::tcp::endpoint& at) {
  with.open(at.protocol());
  with.bind(at);
  with.listen();
  say("ready", std::to_string(with.local_endpoint().port()));
}

// A socket that does not claim to be SMC-D counts for nothing.
[[nodiscard]] inline std::optional<std::uint64_t> carried_by_kernel(dibsock::socket& at) {
  if (at.mode() != dibsock::mode::smcd) return {};
  return tcp_bytes(at.native_handle());
}
[[nodiscard]] inline std::optional<std::uint64_t> carried_by_kernel(asio::ip::tcp::socket& at) {
  return tcp_bytes(at.native_handle());
}

}  // namespace bench
