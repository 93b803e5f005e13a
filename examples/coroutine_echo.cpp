// SPDX-License-Identifier: Apache-2.0
// An echo server with coroutines.
//   coroutine_echo PORT

#include <transport/acceptor.hpp>
#include <transport/socket.hpp>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include <array>
#include <cstdlib>
#include <iostream>

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

asio::awaitable<void> echo(dibsock::socket socket) {
  std::array<char, 65536> bytes;
  try {
    for (;;) {
      const std::size_t n =
          co_await socket.async_read_some(asio::buffer(bytes), asio::use_awaitable);
      co_await asio::async_write(socket, asio::buffer(bytes, n), asio::use_awaitable);
    }
  } catch (const boost::system::system_error&) {
    // The client is done.
  }
}

asio::awaitable<void> serve(unsigned short port) {
  const auto executor = co_await asio::this_coro::executor;
  dibsock::acceptor acceptor(executor, {tcp::v4(), port});
  for (;;) {
    dibsock::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
    asio::co_spawn(executor, echo(std::move(socket)), asio::detached);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: coroutine_echo PORT\n";
    return 2;
  }
  try {
    asio::io_context context;
    asio::co_spawn(context, serve(static_cast<unsigned short>(std::atoi(arguments[1]))),
                   [](std::exception_ptr failure) {
                     if (failure) std::rethrow_exception(failure);
                   });
    context.run();
  } catch (const std::exception& failure) {
    std::cerr << "coroutine_echo: " << failure.what() << '\n';
    return 1;
  }
}
