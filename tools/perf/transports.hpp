// SPDX-License-Identifier: Apache-2.0
#pragma once
// The ways `dibsock perf` can carry its bytes. All have the same shape, so
// that the measuring code is the same template for each:
//   socket, acceptor      Asio's synchronous streams and acceptors
//   listen(), connect()   throw boost::system::system_error
//   mode()                how the bytes really went, known at the end

#include <smcd/error.hpp>
#include <transport/acceptor.hpp>
#include <transport/connect.hpp>
#include <transport/socket.hpp>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace tools::perf {

namespace asio = boost::asio;
using boost::system::error_code;

struct place {
  std::string host;  // for unix: a path, or anything else
  std::uint16_t port = 0;
};

struct tcp_transport {
  static constexpr std::string_view name = "tcp";
  using socket = asio::ip::tcp::socket;
  using acceptor = asio::ip::tcp::acceptor;

  static asio::ip::tcp::endpoint local_endpoint(const place& at) {
    return {asio::ip::make_address(at.host), at.port};
  }
  static auto resolve(asio::io_context& io, const place& to) {
    return asio::ip::tcp::resolver(io).resolve(to.host, std::to_string(to.port));
  }

  static acceptor listen(asio::io_context& io, const place& at) {
    return acceptor(io, local_endpoint(at));
  }
  static void connect(socket& made, asio::io_context& io, const place& to) {
    asio::connect(made, resolve(io, to));
    made.set_option(asio::ip::tcp::no_delay(true));
  }
  template <class Acceptor>
  static std::string name_of(const Acceptor& at) {
    const auto local = at.local_endpoint();
    const std::string address = local.address().to_string();
    return (local.address().is_v6() ? "[" + address + "]" : address) + ":" +
           std::to_string(local.port());
  }
  static std::string mode(const socket&) { return "TCP"; }
  static void leave(const place&) {}
};

// The native API: addresses are those of TCP.
struct smcd_transport {
  static constexpr std::string_view name = "smcd";
  using socket = dibsock::socket;
  using acceptor = dibsock::acceptor;

  static acceptor listen(asio::io_context& io, const place& at) {
    return acceptor(io, tcp_transport::local_endpoint(at));
  }
  static void connect(socket& made, asio::io_context& io, const place& to) {
    dibsock::connect(made, tcp_transport::resolve(io, to));
    made.set_option(asio::ip::tcp::no_delay(true));
  }
  static std::string name_of(const acceptor& at) { return tcp_transport::name_of(at); }
  static std::string mode(const socket& of) {
    if (of.mode() == dibsock::mode::smcd) return "SMCD";
    const smcd::decline_code why = of.fallback_reason();
    return why == smcd::decline_code::none ? "TCP"
                                           : "TCP (" + std::string(smcd::to_text(why)) + ")";
  }
  static void leave(const place&) {}
};

struct unix_transport {
  static constexpr std::string_view name = "unix";
  using socket = asio::local::stream_protocol::socket;
  using acceptor = asio::local::stream_protocol::acceptor;

  // A host with a slash is a path; anything else means an abstract name made
  // of the port, which leaves no file behind.
  static bool is_path(const place& at) { return at.host.find('/') != std::string::npos; }
  static asio::local::stream_protocol::endpoint endpoint(const place& at) {
    if (is_path(at)) return {at.host};
    return {std::string(1, '\0') + "dibsock-perf-" + std::to_string(at.port)};
  }

  static acceptor listen(asio::io_context& io, const place& at) {
    return acceptor(io, endpoint(at));
  }
  static void connect(socket& made, asio::io_context&, const place& to) {
    made.connect(endpoint(to));
  }
  static std::string name_of(const acceptor& at) {
    const std::string path = at.local_endpoint().path();
    return path.empty() || path[0] != '\0' ? path : "@" + path.substr(1);
  }
  static std::string mode(const socket&) { return "UNIX"; }
  static void leave(const place& at) {
    if (is_path(at)) ::unlink(at.host.c_str());
  }
};

}  // namespace tools::perf
