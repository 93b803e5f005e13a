// SPDX-License-Identifier: Apache-2.0
// A program that uses dibsock::socket, with blocking calls or in an io_context.
#include <worker/native.hpp>

#include <worker/loops.hpp>
#include <worker/native_async.hpp>
#include <worker/native_many.hpp>

#include <boost/asio/write.hpp>

namespace bench {
namespace {

class stream {
 public:
  explicit stream(dibsock::socket connected) : socket_(std::move(connected)) {
    socket_.set_option(asio::ip::tcp::no_delay(true));
  }

  std::size_t read(std::span<std::byte> to) {
    error_code code;
    const std::size_t got = socket_.read_some(asio::buffer(to.data(), to.size()), code);
    if (code && code != asio::error::eof) throw boost::system::system_error(code, "read");
    return got;
  }
  void write(std::span<const std::byte> from) {
    asio::write(socket_, asio::buffer(from.data(), from.size()));
  }
  void shut_down() { socket_.shutdown(dibsock::socket::shutdown_send); }
  [[nodiscard]] std::optional<std::uint64_t> kernel_bytes() { return carried_by_kernel(socket_); }

 private:
  dibsock::socket socket_;
};

class side {
 public:
  explicit side(const task& how) : place_(place_of(how)), acceptor_(io_) {
    if (how.is_server) listen(acceptor_, place_);
  }

  stream accept() { return stream(acceptor_.accept()); }
  stream connect() {
    dibsock::socket made(io_);
    made.connect(place_);
    return stream(std::move(made));
  }

 private:
  asio::io_context io_{1};
  asio::ip::tcp::endpoint place_;
  dibsock::acceptor acceptor_;
};

}  // namespace
}  // namespace bench

int main(int count, char** values) {
  return bench::run_worker(count, values, [](const bench::task& how) {
    const bool is_many = how.what == bench::kind::many || how.what == bench::kind::idle;
    if (how.family == "asio") {
      is_many ? bench::work_many<bench::over_asio>(how) : bench::work_async<bench::over_asio>(how);
    } else if (is_many) {
      bench::work_many<bench::over_dibsock>(how);
    } else if (how.is_async) {
      bench::work_async<bench::over_dibsock>(how);
    } else {
      bench::work<bench::side>(how);
    }
  });
}
