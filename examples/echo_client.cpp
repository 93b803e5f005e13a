// SPDX-License-Identifier: Apache-2.0
// Sends lines to an echo server, with callbacks, and says how they went.
//   echo_client HOST PORT [COUNT]

#include <transport/connect.hpp>
#include <transport/socket.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <cstdlib>
#include <iostream>
#include <string>

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

class client {
 public:
  client(asio::io_context& context, int rounds)
      : resolver_(context), socket_(context), rounds_(rounds) {}

  void start(const char* host, const char* port) {
    resolver_.async_resolve(host, port, [this](error_code code, tcp::resolver::results_type found) {
      if (failed(code)) return;
      dibsock::async_connect(socket_, found, [this](error_code why, const tcp::endpoint&) {
        if (!failed(why)) ask();
      });
    });
  }
  [[nodiscard]] bool is_good() const { return is_good_; }

 private:
  void ask() {
    if (asked_ == rounds_) {
      is_good_ = true;
      std::cout << rounds_ << " lines, the last over "
                << (socket_.mode() == dibsock::mode::smcd ? "SMC-D" : "TCP") << '\n';
      return;
    }
    line_ = "line " + std::to_string(asked_++) + '\n';
    answer_.assign(line_.size(), ' ');
    asio::async_write(socket_, asio::buffer(line_), [this](error_code code, std::size_t) {
      if (failed(code)) return;
      asio::async_read(socket_, asio::buffer(answer_), [this](error_code why, std::size_t) {
        if (failed(why)) return;
        if (answer_ == line_) return ask();
        std::cerr << "echo_client: another answer than expected\n";
      });
    });
  }

  static bool failed(const error_code& code) {
    if (code) std::cerr << "echo_client: " << code.message() << '\n';
    return code.failed();
  }

  tcp::resolver resolver_;
  dibsock::socket socket_;
  int rounds_;
  int asked_ = 0;
  bool is_good_ = false;
  std::string line_;
  std::string answer_;
};

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::cerr << "usage: echo_client HOST PORT [COUNT]\n";
    return 2;
  }
  asio::io_context context;
  client asking(context, count > 3 ? std::atoi(arguments[3]) : 10);
  asking.start(arguments[1], arguments[2]);
  context.run();
  return asking.is_good() ? 0 : 1;
}
