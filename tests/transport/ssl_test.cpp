// SPDX-License-Identifier: Apache-2.0
// TLS over our sockets: ssl::stream takes them as it takes any.
#include <transport/acceptor.hpp>

#include "ends.hpp"

#include <boost/asio/ssl.hpp>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <array>
#include <memory>
#include <thread>

namespace {

using namespace support;
using tls_stream = asio::ssl::stream<dibsock::socket>;

// A key and a certificate that it signed itself, good for an hour.
asio::ssl::context certified() {
  asio::ssl::context on(asio::ssl::context::tls_server);
  const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::unique_ptr<X509, void (*)(X509*)> made(X509_new(), X509_free);
  REQUIRE(key != nullptr);
  REQUIRE(made != nullptr);
  ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), 3600);
  X509_set_pubkey(made.get(), key.get());
  X509_NAME* name = X509_get_subject_name(made.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(made.get(), name);
  REQUIRE(X509_sign(made.get(), key.get(), EVP_sha256()) > 0);
  REQUIRE(SSL_CTX_use_certificate(on.native_handle(), made.get()) == 1);
  REQUIRE(SSL_CTX_use_PrivateKey(on.native_handle(), key.get()) == 1);
  return on;
}

struct tls_ends {
  explicit tls_ends(asio::io_context& on) : client(on, of_client), server(on, of_server) {
    dibsock::acceptor listener(on, any_port());
    client.lowest_layer().connect(listener.local_endpoint());
    listener.accept(server.next_layer());
  }
  asio::ssl::context of_client{asio::ssl::context::tls_client};
  asio::ssl::context of_server{certified()};
  tls_stream client;
  tls_stream server;
};

TEST_CASE("ssl: handshake, data and shutdown by callbacks") {
  asio::io_context context;
  tls_ends ends(context);
  int shaken = 0;
  const auto count = [&](error_code code) {
    CHECK_MESSAGE(!code, code.message());
    ++shaken;
  };
  ends.client.async_handshake(tls_stream::client, count);
  ends.server.async_handshake(tls_stream::server, count);
  context.run();
  REQUIRE(shaken == 2);

  // The client reads once: its session tickets stand before whatever follows.
  const std::string sent = random_bytes(20'000'000, 1);
  std::array<char, 2> word{};
  asio::async_write(ends.server, asio::buffer("go", 2),
                    [](error_code code, std::size_t) { CHECK_FALSE(code); });
  asio::async_read(ends.client, asio::buffer(word),
                   [](error_code code, std::size_t) { CHECK_FALSE(code); });
  context.restart();
  context.run();
  std::string got(sent.size(), '\0');
  asio::async_write(ends.client, asio::buffer(sent),
                    [](error_code code, std::size_t) { CHECK_FALSE(code); });
  asio::async_read(ends.server, asio::buffer(got),
                   [](error_code code, std::size_t) { CHECK_FALSE(code); });
  context.restart();
  context.run();
  CHECK(got == sent);
  CHECK(may_be(ends.client.lowest_layer().mode() == dibsock::mode::smcd));
  CHECK(may_be(ends.server.lowest_layer().mode() == dibsock::mode::smcd));

  ends.client.async_shutdown(count);
  ends.server.async_shutdown(count);
  context.restart();
  context.run();
  CHECK(shaken == 4);
}

TEST_CASE("ssl: the same by functions that wait") {
  asio::io_context context;
  tls_ends ends(context);
  const std::string sent = random_bytes(2'000'000, 2);
  std::thread client([&] {
    ends.client.handshake(tls_stream::client);
    asio::write(ends.client, asio::buffer(sent));
    error_code code;
    ends.client.shutdown(code);
  });
  ends.server.handshake(tls_stream::server);
  std::string got;
  error_code code;
  asio::read(ends.server, asio::dynamic_buffer(got), code);
  CHECK(code == asio::error::eof);
  ends.server.shutdown(code);
  client.join();
  CHECK(got == sent);
}

}  // namespace
