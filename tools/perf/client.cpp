// SPDX-License-Identifier: Apache-2.0
#include <tools/perf/client.hpp>

#include <tools/perf/stop.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/system/system_error.hpp>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

namespace tools::perf {
namespace {

using clock = std::chrono::steady_clock;

[[noreturn]] void fail(const char* what, const error_code& why) {
  throw std::runtime_error(std::string(what) + ": " + why.message());
}

template <class Socket, class Message>
void send_message(Socket& to, const Message& message) {
  error_code failure;
  asio::write(to, asio::buffer(&message, sizeof message), failure);
  if (failure) fail("cannot send to the server", failure);
}

template <class Message, class Socket>
Message receive_message(Socket& from) {
  Message message;
  error_code failure;
  asio::read(from, asio::buffer(&message, sizeof message), failure);
  if (failure) fail("the server gave no answer", failure);
  return message;
}

template <class Socket>
void introduce(Socket& to, const plan& planned) {
  request asked;
  asked.kind.store(static_cast<std::uint16_t>(planned.kind));
  asked.size.store(planned.size);
  asked.milliseconds.store(static_cast<std::uint32_t>(planned.time.count()));
  send_message(to, asked);
  const auto said = receive_message<answer>(to);
  if (!is_ours(said.magic)) throw std::runtime_error("this is no dibsock perf server");
  switch (static_cast<verdict>(said.what.load())) {
    case verdict::accepted: return;
    case verdict::wrong_version:
      throw std::runtime_error("the server speaks version " + std::to_string(said.version.load()) +
                               ", this is version " + std::to_string(version));
    case verdict::wrong_parameters: break;
  }
  throw std::runtime_error("the server refuses these parameters");
}

// Small messages are quicker than a look at the clock.
std::uint64_t messages_per_look(std::uint32_t size) {
  return std::clamp<std::uint64_t>(65536 / size, 1, 64);
}

template <class Socket>
void stream(Socket& to, const plan& planned, outcome& got) {
  const std::vector<std::byte> message(planned.size, std::byte{0x5A});
  const std::uint64_t look = messages_per_look(planned.size);
  const clock::time_point start = clock::now();
  const clock::time_point end = start + planned.time;
  error_code failure;
  do {
    for (std::uint64_t i = 0; i < look && !failure && !is_stopping(); ++i) {
      got.bytes += asio::write(to, asio::buffer(message), failure);
    }
  } while (!failure && !is_stopping() && clock::now() < end);
  if (failure && !is_stopping()) fail("the stream broke", failure);
  to.shutdown(Socket::shutdown_send);
  // Only what arrived counts, and only when it has arrived.
  const std::uint64_t arrived = receive_message<report>(to).bytes.load();
  got.seconds = std::chrono::duration<double>(clock::now() - start).count();
  if (arrived != got.bytes) {
    throw std::runtime_error(std::to_string(got.bytes) + " bytes were sent, but " +
                             std::to_string(arrived) + " arrived");
  }
  got.messages = got.bytes / planned.size;
}

template <class Socket>
void ping(Socket& to, const plan& planned, outcome& got) {
  std::vector<std::byte> message(planned.size, std::byte{0x5A});
  const clock::time_point start = clock::now();
  const clock::time_point end = start + planned.time;
  clock::time_point last = start;
  while (last < end && !is_stopping()) {
    error_code failure;
    asio::write(to, asio::buffer(message), failure);
    if (!failure) asio::read(to, asio::buffer(message), failure);
    if (failure && is_stopping()) break;
    if (failure) fail("the ping broke", failure);
    const clock::time_point now = clock::now();
    got.round_trips.add(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(now - last).count()));
    last = now;
  }
  got.seconds = std::chrono::duration<double>(last - start).count();
  got.messages = got.round_trips.count();
  got.bytes = got.messages * planned.size;
  error_code ignored;
  to.shutdown(Socket::shutdown_send, ignored);
}

}  // namespace

template <class Transport>
outcome measure(const plan& planned) {
  asio::io_context io;
  typename Transport::socket socket(io);
  try {
    Transport::connect(socket, io, planned.server);
  } catch (const boost::system::system_error& failure) {
    fail("cannot connect", failure.code());
  }
  introduce(socket, planned);
  outcome got;
  if (planned.kind == test::stream) {
    stream(socket, planned, got);
  } else {
    ping(socket, planned, got);
  }
  got.mode = Transport::mode(socket);
  return got;
}

template outcome measure<smcd_transport>(const plan&);
template outcome measure<tcp_transport>(const plan&);
template outcome measure<unix_transport>(const plan&);

}  // namespace tools::perf
