// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the tests of the transport share: a fabric of this process alone, two
// connected sockets, and bytes that can be told from any others.

#include <transport/acceptor.hpp>
#include <transport/socket.hpp>

#include <devices/chaos.hpp>

#include <support/random.hpp>
#include <support/scratch_fabric.hpp>

#include <doctest/doctest.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <cstdlib>
#include <string>

namespace support {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

// Before the first socket: all of them meet in a directory of their own.
class own_fabric {
 public:
  own_fabric() { ::setenv("DIBSOCK_FABRIC", fabric_.directory().c_str(), 1); }

 private:
  scratch_fabric fabric_;
};
inline const own_fabric fabric_of_this_process;

[[nodiscard]] inline tcp::endpoint any_port() { return {asio::ip::address_v4::loopback(), 0}; }

// A connection leaves TCP only if nothing is refused: what it is then may be,
// unless chaos (devices/chaos.hpp) refuses.
[[nodiscard]] inline bool may_be(bool is_so) { return is_so || dibs::chaos::is_on(); }

// A connected pair on one context, by functions that wait.
struct two_sockets {
  explicit two_sockets(asio::io_context& on) : client(on), server(on) {
    dibsock::acceptor listener(on, any_port());
    client.connect(listener.local_endpoint());
    listener.accept(server);
    // What is written is there at once, also on TCP, where chaos may leave them.
    client.set_option(tcp::no_delay(true));
    server.set_option(tcp::no_delay(true));
  }

  // A byte there and a byte back until both ends are on SMC-D.
  void establish() {
    for (int round = 0; round < 8 && !is_smcd(); ++round) {
      char byte = 'x';
      asio::write(client, asio::buffer(&byte, 1));
      asio::read(server, asio::buffer(&byte, 1));
      asio::write(server, asio::buffer(&byte, 1));
      asio::read(client, asio::buffer(&byte, 1));
    }
    REQUIRE(may_be(is_smcd()));
  }
  [[nodiscard]] bool is_smcd() const {
    return client.mode() == dibsock::mode::smcd && server.mode() == dibsock::mode::smcd;
  }

  dibsock::socket client;
  dibsock::socket server;
};

// The same on SMC-D.
struct two_smcd_sockets : two_sockets {
  explicit two_smcd_sockets(asio::io_context& on) : two_sockets(on) { establish(); }
};

[[nodiscard]] inline std::string random_bytes(std::size_t size, std::uint64_t seed) {
  random from(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(from.next());
  return bytes;
}

}  // namespace support
