// SPDX-License-Identifier: Apache-2.0
// A small HTTP server on Boost.Beast. Plain TCP clients (curl) and dibsock
// clients (dibsock run -- curl) come to the same port.
//   http_server PORT

#include <transport/acceptor.hpp>
#include <transport/socket.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <cstdlib>
#include <iostream>
#include <memory>

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

class session : public std::enable_shared_from_this<session> {
 public:
  explicit session(dibsock::socket socket) : socket_(std::move(socket)) {}

  void read() {
    request_ = {};
    http::async_read(socket_, buffer_, request_,
                     [self = shared_from_this()](error_code code, std::size_t) {
                       if (!code) self->answer();
                     });
  }

 private:
  void answer() {
    response_ = http::response<http::string_body>(http::status::ok, request_.version());
    response_.set(http::field::content_type, "text/plain");
    response_.keep_alive(request_.keep_alive());
    response_.body() = std::string(socket_.mode() == dibsock::mode::smcd ? "SMC-D" : "TCP") +
                       " brought me " + std::string(request_.target()) + "\n";
    response_.prepare_payload();
    http::async_write(socket_, response_,
                      [self = shared_from_this()](error_code code, std::size_t) {
                        if (!code && self->response_.keep_alive()) return self->read();
                        error_code ignored;
                        self->socket_.shutdown(tcp::socket::shutdown_send, ignored);
                      });
  }

  dibsock::socket socket_;
  boost::beast::flat_buffer buffer_;
  http::request<http::string_body> request_;
  http::response<http::string_body> response_;
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
    std::cerr << "usage: http_server PORT\n";
    return 2;
  }
  try {
    asio::io_context context;
    const auto port = static_cast<unsigned short>(std::atoi(arguments[1]));
    dibsock::acceptor acceptor(context, {tcp::v4(), port});
    accept(acceptor);
    context.run();
  } catch (const std::exception& failure) {
    std::cerr << "http_server: " << failure.what() << '\n';
    return 1;
  }
}
