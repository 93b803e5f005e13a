// SPDX-License-Identifier: Apache-2.0
#include <transport/connect.hpp>

#include "ends.hpp"

#include <boost/asio/ip/basic_resolver_results.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <optional>
#include <vector>

namespace {

using namespace support;

[[maybe_unused]] void compile_all(dibsock::socket& on, const tcp::resolver::results_type& found) {
  error_code code;
  dibsock::connect(on, found);
  dibsock::connect(on, found, code);
  static_cast<void>(dibsock::async_connect(on, found, asio::use_future));
  const auto any = [](const error_code&, const tcp::endpoint&) { return true; };
  dibsock::connect(on, found, any, code);
  dibsock::async_connect(on, found, any, [](error_code, tcp::endpoint) {});
}

struct endpoints {
  explicit endpoints(asio::io_context& on) : listener(on, any_port()) {
    {
      const dibsock::acceptor closed(on, any_port());
      nobody = closed.local_endpoint();
    }
    somebody = listener.local_endpoint();
  }
  dibsock::acceptor listener;
  tcp::endpoint nobody;
  tcp::endpoint somebody;
};

struct connected {
  std::optional<error_code> code;
  tcp::endpoint to;
  auto handler() {
    return [this](error_code why, tcp::endpoint which) {
      code = why;
      to = which;
    };
  }
};

TEST_CASE("connect: takes the first endpoint that answers") {
  asio::io_context context;
  endpoints at(context);
  const std::vector<tcp::endpoint> both{at.nobody, at.somebody};
  dibsock::socket client(context);
  CHECK(dibsock::connect(client, both) == at.somebody);
  CHECK(client.remote_endpoint() == at.somebody);

  connected result;
  dibsock::async_connect(client, both, result.handler());
  CHECK_FALSE(result.code);
  context.run();
  CHECK(result.code == error_code());
  CHECK(result.to == at.somebody);
  dibsock::socket first(at.listener.accept());
  two_sockets ends(context);
  ends.client = std::move(client);
  at.listener.accept(first = dibsock::socket(context));
  ends.server = std::move(first);
  ends.establish();
}

TEST_CASE("connect: fails as the last endpoint did, or with not_found") {
  asio::io_context context;
  endpoints at(context);
  const std::vector<tcp::endpoint> refused{at.nobody, at.nobody};
  const std::vector<tcp::endpoint> none;
  dibsock::socket client(context);
  error_code code;
  dibsock::connect(client, refused, code);
  CHECK(code == asio::error::connection_refused);
  dibsock::connect(client, none, code);
  CHECK(code == asio::error::not_found);
  CHECK_THROWS_AS(dibsock::connect(client, none), boost::system::system_error);
  connected of_refused;
  connected of_none;
  dibsock::async_connect(client, refused, of_refused.handler());
  dibsock::socket other(context);
  dibsock::async_connect(other, none, of_none.handler());
  CHECK_FALSE(of_none.code);
  context.run();
  CHECK(of_refused.code == asio::error::connection_refused);
  CHECK(of_none.code == asio::error::not_found);
}

TEST_CASE("connect: tries only what the condition lets through") {
  asio::io_context context;
  endpoints at(context);
  const std::vector<tcp::endpoint> all{at.somebody, at.nobody, at.somebody};
  dibsock::socket client(context);
  int asked = 0;
  const auto only_last = [&](const error_code& last, const tcp::endpoint&) {
    if (++asked == 3) CHECK(last == asio::error::connection_refused);
    return asked > 1;
  };
  error_code code;
  CHECK(dibsock::connect(client, all, only_last, code) == at.somebody);
  CHECK(asked == 3);
  connected result;
  dibsock::async_connect(
      client, all, [](const error_code&, const tcp::endpoint& to) { return to.port() == 0; },
      result.handler());
  context.run();
  CHECK(result.code == asio::error::not_found);
}

TEST_CASE("connect: closing the socket ends it") {
  asio::io_context context;
  endpoints at(context);
  dibsock::socket client(context);
  connected result;
  dibsock::async_connect(client, std::vector<tcp::endpoint>(100, at.nobody), result.handler());
  client.close();
  context.run();
  CHECK(result.code == asio::error::operation_aborted);
}

}  // namespace
