// SPDX-License-Identifier: Apache-2.0
#include <transport/detail/kernel_socket.hpp>

#include "ends.hpp"

#include <support/child_process.hpp>

#include <boost/asio/ip/unicast.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/thread_pool.hpp>

#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>
#include <thread>

namespace {

using namespace support;

// Does an event loop of this process watch the descriptor? Of epoll; an
// io_uring tells nobody.
[[nodiscard]] bool is_watched(int fd) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fdinfo")) {
    std::ifstream lines(entry.path());
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string name;
      int number = -1;
      if (words >> name >> number && name == "tfd:" && number == fd) return true;
    }
  }
  return false;
}

#if defined(BOOST_ASIO_HAS_EPOLL)
constexpr bool has_epoll = true;
#else
constexpr bool has_epoll = false;
#endif

void exchange(two_sockets& ends) {
  char byte = 'x';
  asio::write(ends.client, asio::buffer(&byte, 1));
  asio::read(ends.server, asio::buffer(&byte, 1));
}

}  // namespace

TEST_CASE("kernel_socket: whoever waits in a call is not registered with the event loop") {
  asio::io_context context;
  two_sockets ends(context);
  for (dibsock::socket* end : {&ends.client, &ends.server}) {
    end->set_option(tcp::no_delay(true));
    CHECK(end->local_endpoint().port() != end->remote_endpoint().port());
    end->cancel();
  }
  ends.establish();
  CHECK(!is_watched(ends.client.native_handle()));
  CHECK(!is_watched(ends.server.native_handle()));
}

TEST_CASE("kernel_socket: the first asynchronous operation that waits registers it") {
  asio::io_context context;
  two_sockets ends(context);
  char byte = 0;
  std::size_t got = 0;
  ends.server.async_read_some(asio::buffer(&byte, 1),
                              [&](error_code, std::size_t size) { got = size; });
  CHECK(is_watched(ends.server.native_handle()) == has_epoll);
  CHECK(!is_watched(ends.client.native_handle()));
  asio::write(ends.client, asio::buffer("y", 1));
  context.run();
  CHECK(got == 1);
  CHECK(byte == 'y');
  // Now the kernel's socket does not wait, but ours does.
  exchange(ends);
  std::thread late([&] { asio::write(ends.client, asio::buffer("z", 1)); });
  CHECK(asio::read(ends.server, asio::buffer(&byte, 1)) == 1);
  late.join();
  CHECK(byte == 'z');
}

TEST_CASE("kernel_socket: both sides of a stream may be the first to wait, at the same time") {
  for (int round = 0; round < 100; ++round) {
    asio::thread_pool pool(2);
    asio::io_context context;
    two_sockets ends(context);
    dibsock::socket server(pool);
    {
      dibsock::acceptor listener(context, any_port());
      ends.client.close();
      ends.client.connect(listener.local_endpoint());
      listener.accept(server);
    }
    std::promise<void> read;
    std::promise<void> waited;
    char byte = 0;
    std::thread other([&] {
      server.async_wait(tcp::socket::wait_write, [&](error_code) { waited.set_value(); });
    });
    server.async_read_some(asio::buffer(&byte, 1),
                           [&](error_code, std::size_t) { read.set_value(); });
    other.join();
    asio::write(ends.client, asio::buffer("y", 1));
    read.get_future().wait();
    waited.get_future().wait();
    CHECK(byte == 'y');
  }
}

TEST_CASE("kernel_socket: options are those of Asio, also where the kernel knows others") {
  asio::io_context context;
  dibsock::socket socket(context, tcp::v4());
  tcp::socket plain(context, tcp::v4());
  for (const int size : {4096, 100'000}) {
    const asio::socket_base::receive_buffer_size wanted(size);
    socket.set_option(wanted);
    plain.set_option(wanted);
    asio::socket_base::receive_buffer_size got;
    asio::socket_base::receive_buffer_size expected;
    socket.get_option(got);
    plain.get_option(expected);
    CHECK(got.value() == expected.value());
  }
  socket.set_option(asio::socket_base::enable_connection_aborted(true));
  asio::socket_base::enable_connection_aborted is_told;
  socket.get_option(is_told);
  CHECK(is_told.value());
  error_code code;
  socket.set_option(asio::ip::v6_only(true), code);
  error_code expected;
  plain.set_option(asio::ip::v6_only(true), expected);
  CHECK(code == expected);
  CHECK(code);
}

TEST_CASE("kernel_socket: options of IPv6 hold, whatever way a socket comes") {
  asio::io_context context;
  dibsock::acceptor listener(context, {asio::ip::address_v6::loopback(), 0});
  dibsock::socket opened(context, tcp::v6());
  dibsock::socket connected(context);
  dibsock::socket accepted(context);
  dibsock::socket accepted_later(context);
  opened.connect(listener.local_endpoint());
  listener.accept(accepted);
  error_code failed;
  connected.async_connect(listener.local_endpoint(), [&](error_code code) { failed = code; });
  listener.async_accept(accepted_later, [&](error_code code) { CHECK(!code); });
  context.run();
  REQUIRE(!failed);
  for (dibsock::socket* each : {&opened, &connected, &accepted, &accepted_later}) {
    each->set_option(asio::ip::unicast::hops(7));
    int hops = 0;
    socklen_t size = sizeof hops;
    ::getsockopt(each->native_handle(), IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, &size);
    CHECK(hops == 7);
  }
}

TEST_CASE("kernel_socket: connecting waits, although the descriptor does not") {
  asio::io_context context;
  dibsock::acceptor listener(context, any_port());
  dibsock::socket socket(context, tcp::v4());
  int yes = 1;
  REQUIRE(::ioctl(socket.native_handle(), FIONBIO, &yes) == 0);
  error_code code;
  CHECK(!socket.connect(listener.local_endpoint(), code));
  CHECK(socket.remote_endpoint() == listener.local_endpoint());

  const tcp::endpoint gone = listener.local_endpoint();
  listener.close();
  dibsock::socket refused(context, tcp::v4());
  REQUIRE(::ioctl(refused.native_handle(), FIONBIO, &yes) == 0);
  CHECK(refused.connect(gone, code) == asio::error::connection_refused);
}

TEST_CASE("kernel_socket: accepting waits, although Asio has made the listener non-blocking") {
  asio::io_context context;
  dibsock::acceptor listener(context, any_port());
  error_code aborted;
  listener.async_accept([&](error_code code, dibsock::socket) { aborted = code; });
  listener.cancel();
  context.run();
  REQUIRE(aborted == asio::error::operation_aborted);
  dibsock::socket client(context);
  std::thread late([&] { client.connect(listener.local_endpoint()); });
  tcp::endpoint peer;
  const dibsock::socket server = listener.accept(peer);
  late.join();
  CHECK(peer == client.local_endpoint());

  listener.non_blocking(true);
  error_code code;
  static_cast<void>(listener.accept(code));
  CHECK(code == asio::error::would_block);
}

TEST_CASE(
    "kernel_socket: a forked child that closes its copy leaves the parent's event loop alone") {
  asio::io_context context;
  two_sockets ends(context);
  char byte = 0;
  std::size_t got = 0;
  ends.server.async_read_some(asio::buffer(&byte, 1),
                              [&](error_code, std::size_t size) { got = size; });
  context.poll();
  support::child_process child([&] {
    error_code code;
    ends.server.close(code);
    return code ? 1 : 0;
  });
  REQUIRE(child.wait() == 0);
  CHECK(is_watched(ends.server.native_handle()) == has_epoll);
  asio::write(ends.client, asio::buffer("y", 1));
  context.run_for(std::chrono::seconds(20));
  CHECK(got == 1);
}
