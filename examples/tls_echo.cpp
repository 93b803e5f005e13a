// SPDX-License-Identifier: Apache-2.0
// TLS over a dibsock socket: what travels in shared memory is the ciphertext.
//   tls_echo server PORT CERTIFICATE.pem KEY.pem
//   tls_echo client HOST PORT

#include <transport/acceptor.hpp>
#include <transport/connect.hpp>
#include <transport/socket.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>

#include <array>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

namespace asio = boost::asio;
using asio::ip::tcp;
using tls_stream = asio::ssl::stream<dibsock::socket>;

namespace {

// One client after the other; see echo_server.cpp for many at a time.
void serve(unsigned short port, const char* certificate, const char* key) {
  asio::io_context context;
  asio::ssl::context tls(asio::ssl::context::tls_server);
  tls.use_certificate_chain_file(certificate);
  tls.use_private_key_file(key, asio::ssl::context::pem);
  dibsock::acceptor acceptor(context, {tcp::v4(), port});
  for (;;) {
    tls_stream stream(acceptor.accept(), tls);
    boost::system::error_code code;
    stream.handshake(asio::ssl::stream_base::server, code);
    std::array<char, 16384> bytes;
    while (!code) {
      const std::size_t n = stream.read_some(asio::buffer(bytes), code);
      if (!code) asio::write(stream, asio::buffer(bytes, n), code);
    }
  }
}

void talk(const char* host, const char* port) {
  asio::io_context context;
  asio::ssl::context tls(asio::ssl::context::tls_client);
  tls_stream stream(context, tls);
  dibsock::connect(stream.next_layer(), tcp::resolver(context).resolve(host, port));
  stream.handshake(asio::ssl::stream_base::client);
  const std::string line = "hello over TLS\n";
  std::string answer(line.size(), ' ');
  for (int i = 0; i < 10; ++i) {
    asio::write(stream, asio::buffer(line));
    asio::read(stream, asio::buffer(answer));
  }
  std::cout << answer << SSL_get_cipher_name(stream.native_handle()) << " over "
            << (stream.next_layer().mode() == dibsock::mode::smcd ? "SMC-D" : "TCP") << '\n';
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view role = count > 1 ? arguments[1] : "";
  try {
    if (role == "server" && count == 5) {
      serve(static_cast<unsigned short>(std::atoi(arguments[2])), arguments[3], arguments[4]);
    } else if (role == "client" && count == 4) {
      talk(arguments[2], arguments[3]);
    } else {
      std::cerr << "usage: tls_echo server PORT CERTIFICATE KEY | client HOST PORT\n";
      return 2;
    }
  } catch (const std::exception& failure) {
    std::cerr << "tls_echo: " << failure.what() << '\n';
    return 1;
  }
}
