// SPDX-License-Identifier: Apache-2.0
// io.h by dibsock::socket.
#include "io.h"

#include <transport/acceptor.hpp>
#include <transport/socket.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <cerrno>
#include <optional>

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

asio::ip::tcp::endpoint at_port(std::uint16_t port) {
  return {asio::ip::address_v4::loopback(), port};
}

// Never destroyed: exit() comes while the other thread still reads.
asio::io_context& context = *new asio::io_context;
auto& listener = *new std::optional<dibsock::acceptor>;
auto& connection = *new std::optional<dibsock::socket>;

long judge(error_code code, std::size_t moved) {
  if (!code) return static_cast<long>(moved);
  return code == asio::error::eof ? 0 : -code.value();
}

}  // namespace

uint16_t io_listen() {
  listener.emplace(context, at_port(0));
  return listener->local_endpoint().port();
}

long io_accept() {
  error_code code;
  connection.emplace(context);
  listener->accept(*connection, code);
  return judge(code, 0);
}

long io_connect(uint16_t port) {
  error_code code;
  connection.emplace(context);
  connection->connect(at_port(port), code);
  return judge(code, 0);
}

long io_read(void* to, size_t size, int is_asynchronous) {
  error_code code;
  std::size_t moved = 0;
  if (is_asynchronous == 0) {
    moved = connection->read_some(asio::buffer(to, size), code);
  } else {
    connection->async_read_some(asio::buffer(to, size), [&](error_code failure, std::size_t n) {
      code = failure;
      moved = n;
    });
    context.restart();
    context.run();
  }
  return judge(code, moved);
}

long io_write(const void* from, size_t size) {
  error_code code;
  const std::size_t moved = connection->write_some(asio::buffer(from, size), code);
  return judge(code, moved);
}

long io_shutdown() {
  error_code code;
  connection->shutdown(asio::ip::tcp::socket::shutdown_send, code);
  return judge(code, 0);
}

void io_close() {
  connection.reset();
  listener.reset();
}
