// SPDX-License-Identifier: Apache-2.0
#include <tools/perf/server.hpp>

#include <tools/perf/protocol.hpp>
#include <tools/perf/stop.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/system/system_error.hpp>

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace tools::perf {
namespace {

// How long a client may stay silent before it has said what it wants: the next
// one may be waiting behind it.
constexpr int patience_ms = 10'000;
constexpr std::size_t min_buffer = std::size_t{256} * 1024;

template <class Socket>
bool has_spoken(Socket& client) {
  pollfd waiting{client.native_handle(), POLLIN, 0};
  return ::poll(&waiting, 1, patience_ms) == 1;
}

template <class Socket>
void take_stream(Socket& client, std::uint32_t size) {
  std::vector<std::byte> buffer(std::max<std::size_t>(size, min_buffer));
  std::uint64_t bytes = 0;
  error_code failure;
  while (!failure) bytes += client.read_some(asio::buffer(buffer), failure);
  if (failure != asio::error::eof) return;
  report said;
  said.bytes.store(bytes);
  asio::write(client, asio::buffer(&said, sizeof said), failure);
}

template <class Socket>
void echo(Socket& client, std::uint32_t size) {
  std::vector<std::byte> buffer(size);
  error_code failure;
  while (!failure) {
    asio::read(client, asio::buffer(buffer), failure);
    if (!failure) asio::write(client, asio::buffer(buffer), failure);
  }
}

template <class Socket>
void serve_one(Socket& client) {
  const stoppable guard(client.native_handle());
  request asked;
  error_code failure;
  if (!has_spoken(client)) return;
  asio::read(client, asio::buffer(&asked, sizeof asked), failure);
  // A stranger gets no answer that it could not read.
  if (failure || !is_ours(asked.magic)) return;
  const verdict judged = judge(asked);
  answer said;
  said.what.store(static_cast<std::uint16_t>(judged));
  asio::write(client, asio::buffer(&said, sizeof said), failure);
  if (failure || judged != verdict::accepted) return;
  const auto kind = static_cast<test>(asked.kind.load());
  const std::uint32_t size = asked.size.load();
  std::cout << std::string(to_text(kind)) + " of " + std::to_string(size) + " byte messages for " +
                   std::to_string(asked.milliseconds.load()) + " ms\n"
            << std::flush;
  if (kind == test::stream) {
    take_stream(client, size);
  } else {
    echo(client, size);
  }
}

// Threads that serve, so that none outlives the sockets' context.
class crowd {
 public:
  crowd() = default;
  crowd(const crowd&) = delete;
  crowd& operator=(const crowd&) = delete;
  ~crowd() {
    for (int left = size_.load(); left != 0; left = size_.load()) size_.wait(left);
  }

  template <class Work>
  void start(Work work) {
    ++size_;
    std::thread([this, work = std::move(work)]() mutable {
      try {
        work();
      } catch (const std::exception& failure) {
        std::cerr << std::string("dibsock perf: ") + failure.what() + "\n";
      }
      // Whatever the work owns goes before this one stops to count.
      { const Work gone = std::move(work); }
      --size_;
      size_.notify_all();
    }).detach();
  }

 private:
  std::atomic<int> size_{0};
};

}  // namespace

template <class Transport>
void serve(const place& at, bool is_parallel) {
  asio::io_context io;
  typename Transport::acceptor acceptor(io);
  try {
    acceptor = Transport::listen(io, at);
  } catch (const boost::system::system_error& failure) {
    throw std::runtime_error("cannot listen: " + failure.code().message());
  }
  const stoppable guard(acceptor.native_handle());
  std::cout << "listening on " << Transport::name_of(acceptor) << " (" << Transport::name << ")\n"
            << std::flush;
  crowd others;
  while (!is_stopping()) {
    error_code failure;
    auto client = std::make_unique<typename Transport::socket>(io);
    acceptor.accept(*client, failure);
    if (failure) {
      // One connection that came to nothing is no reason to stop serving.
      if (is_stopping() || failure == asio::error::interrupted ||
          failure == asio::error::connection_aborted) {
        continue;
      }
      throw std::runtime_error("cannot accept: " + failure.message());
    }
    if (is_parallel) {
      others.start([client = std::move(client)] { serve_one(*client); });
    } else {
      serve_one(*client);
    }
  }
  Transport::leave(at);
}

template void serve<smcd_transport>(const place&, bool is_parallel);
template void serve<tcp_transport>(const place&, bool is_parallel);
template void serve<unix_transport>(const place&, bool is_parallel);

}  // namespace tools::perf
