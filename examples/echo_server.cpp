// SPDX-License-Identifier: Apache-2.0
// An echo server with callbacks. Serves plain TCP clients and dibsock clients.
//   echo_server PORT

#include <transport/acceptor.hpp>
#include <transport/socket.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/write.hpp>

#include <array>
#include <cstdlib>
#include <iostream>
#include <memory>

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

class session : public std::enable_shared_from_this<session> {
 public:
  explicit session(dibsock::socket socket) : socket_(std::move(socket)) {}

  void read() {
    socket_.async_read_some(asio::buffer(bytes_),
                            [self = shared_from_this()](error_code code, std::size_t n) {
                              if (!code) self->write(n);
                            });
  }

 private:
  void write(std::size_t n) {
    asio::async_write(socket_, asio::buffer(bytes_, n),
                      [self = shared_from_this()](error_code code, std::size_t) {
                        if (!code) self->read();
                      });
  }

  dibsock::socket socket_;
  std::array<char, 65536> bytes_;
};

void accept(dibsock::acceptor& from) {
  from.async_accept([&from](error_code code, dibsock::socket socket) {
    if (!code) std::make_shared<session>(std::move(socket))->read();
    accept(from);
  });
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: echo_server PORT\n";
    return 2;
  }
  try {
    asio::io_context context;
    const auto port = static_cast<unsigned short>(std::atoi(arguments[1]));
    dibsock::acceptor acceptor(context, {tcp::v4(), port});
    accept(acceptor);
    context.run();
  } catch (const std::exception& failure) {
    std::cerr << "echo_server: " << failure.what() << '\n';
    return 1;
  }
}
