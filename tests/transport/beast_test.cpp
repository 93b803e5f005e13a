// SPDX-License-Identifier: Apache-2.0
// Beast's HTTP over our sockets, and beside a plain TCP client.
#include <transport/acceptor.hpp>

#include "ends.hpp"

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <memory>
#include <thread>

namespace {

using namespace support;
namespace beast = boost::beast;
namespace http = beast::http;

// Answers requests with the target that was asked for, many times over.
class session : public std::enable_shared_from_this<session> {
 public:
  explicit session(dibsock::socket on) : on_(std::move(on)) {}
  void start() {
    request_ = {};
    http::async_read(on_, buffer_, request_,
                     [self = shared_from_this()](error_code code, std::size_t) {
                       if (!code) self->answer();
                     });
  }

 private:
  void answer() {
    response_ = {http::status::ok, request_.version()};
    for (int i = 0; i < 10'000; ++i) response_.body() += request_.target();
    response_.keep_alive(request_.keep_alive());
    response_.prepare_payload();
    http::async_write(on_, response_, [self = shared_from_this()](error_code code, std::size_t) {
      if (code) return;
      if (self->response_.keep_alive()) return self->start();
      self->on_.shutdown(dibsock::socket::shutdown_send, code);
    });
  }
  dibsock::socket on_;
  beast::flat_buffer buffer_;
  http::request<http::string_body> request_;
  http::response<http::string_body> response_;
};

template <class Socket>
std::string get(Socket& on, beast::flat_buffer& buffer, const std::string& target, bool keeps) {
  http::request<http::empty_body> request(http::verb::get, target, 11);
  request.keep_alive(keeps);
  http::write(on, request);
  http::response<http::string_body> response;
  http::read(on, buffer, response);
  CHECK(response.result() == http::status::ok);
  return response.body();
}

template <class Socket>
void check_client(const tcp::endpoint& to, asio::io_context& context) {
  Socket client(context);
  client.connect(to);
  beast::flat_buffer buffer;
  for (int i = 0; i < 12; ++i) {
    const std::string body = get(client, buffer, "/abc", i < 11);
    CHECK(body.size() == 40'000);
    CHECK(body.substr(39'996) == "/abc");
  }
  if constexpr (std::is_same_v<Socket, dibsock::socket>) {
    CHECK(may_be(client.mode() == dibsock::mode::smcd));
  }
}

TEST_CASE("beast: one server for clients on SMC-D and on TCP") {
  asio::io_context context;
  dibsock::acceptor listener(context, any_port());
  for (int i = 0; i < 2; ++i) {
    listener.async_accept([&](error_code code, dibsock::socket made) {
      REQUIRE_FALSE(code);
      std::make_shared<session>(std::move(made))->start();
    });
  }
  std::thread server([&] { context.run(); });
  asio::io_context clients;
  check_client<dibsock::socket>(listener.local_endpoint(), clients);
  check_client<tcp::socket>(listener.local_endpoint(), clients);
  server.join();
}

}  // namespace
