// SPDX-License-Identifier: Apache-2.0
#include <transport/detail/kernel_lane.hpp>
// first, to prove that it stands alone
#include <doctest/doctest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <string>

namespace asio = boost::asio;
using asio::ip::tcp;
using dibsock::detail::kernel_lane;

TEST_CASE("kernel_lane: counters are those of bytes, also when the peer has sent FIN") {
  asio::io_context context;
  tcp::acceptor listener(context, {asio::ip::address_v4::loopback(), 0});
  tcp::socket peer(context);
  peer.connect(listener.local_endpoint());
  tcp::socket self = listener.accept();
  kernel_lane lane(self.native_handle());
  std::uint64_t written = 0;
  std::uint64_t read = 0;
  std::string bytes(100, 'x');
  asio::write(self, asio::buffer(bytes, 7));
  asio::write(peer, asio::buffer(bytes));
  asio::read(self, asio::buffer(bytes, 40));
  REQUIRE(lane.counters(written, read));
  CHECK(written == 7);
  CHECK(read == 40);

  peer.shutdown(tcp::socket::shutdown_send);
  while (!lane.has_hung_up()) {
  }
  REQUIRE(lane.counters(written, read));
  CHECK(written == 7);
  CHECK(read == 40);
  asio::read(self, asio::buffer(bytes, 60));
  REQUIRE(lane.counters(written, read));
  CHECK(read == 100);
}

TEST_CASE("kernel_lane: nobody knows the counters of a connection that was reset") {
  asio::io_context context;
  tcp::acceptor listener(context, {asio::ip::address_v4::loopback(), 0});
  tcp::socket peer(context);
  peer.connect(listener.local_endpoint());
  tcp::socket self = listener.accept();
  kernel_lane lane(self.native_handle());
  peer.set_option(tcp::socket::linger(true, 0));
  peer.close();
  while (!lane.has_hung_up()) {
  }
  std::uint64_t written = 0;
  std::uint64_t read = 0;
  CHECK_FALSE(lane.counters(written, read));
}
