// SPDX-License-Identifier: Apache-2.0
#include <smcd/connection.hpp>

#include <support/stream.hpp>
#include <support/two_ends.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

using smcd::connection;
using smcd::decline_code;
using smcd::end_stage;
using smcd::lane;
using support::ends_options;
using support::stack_options;
using support::stream;
using support::two_ends;
using support::two_stacks;
using outcome = support::stream::outcome;

namespace {

std::uint64_t clc_bytes(const support::end_point& end) {
  return end.connection.state().sending.extra_bytes;
}

// Both directions, some of it, in turns.
void converse(two_ends& ends, int turns = 40, std::size_t size = 100) {
  stream up(ends.client, ends.server);
  stream down(ends.server, ends.client);
  for (int i = 0; i < turns; ++i) {
    REQUIRE(up.carry(size));
    REQUIRE(down.carry(size));
  }
}

}  // namespace

// ---- staying on TCP ----------------------------------------------------------

TEST_CASE("connection: one that may not switch is plain TCP, byte for byte") {
  ends_options how;
  how.client_may_switch = how.server_may_switch = false;
  two_ends ends({}, how);
  CHECK(ends.client.connection.is_plain());
  converse(ends);
  CHECK(ends.client.connection.is_plain());
  CHECK(ends.server.connection.is_plain());
  CHECK(ends.client.tcp.written() == 4000);
  CHECK(ends.server.tcp.written() == 4000);
  CHECK(ends.client.connection.readable_size(ends.client.tcp) == 0);
}

TEST_CASE("connection: a client that nobody joins gives up, and sends no byte of its own") {
  ends_options how;
  how.server_may_switch = false;
  two_ends ends({}, how);
  REQUIRE(ends.client.stage() == end_stage::candidate);
  converse(ends, 400);
  for (int i = 0; i < 70'000; ++i) ends.client.connection.advance(ends.client.tcp);
  CHECK(ends.client.connection.is_plain());
  CHECK(ends.client.connection.state().local_reason == decline_code::peer_no_smc);
  CHECK(ends.client.tcp.written() == 40000);
  CHECK(ends.server.tcp.written() == 40000);
  CHECK(clc_bytes(ends.client) == 0);
}

TEST_CASE("connection: a server that finds no record gives up, and sends no byte of its own") {
  ends_options how;
  how.client_may_switch = false;
  two_ends ends({}, how);
  converse(ends, 600);
  CHECK(ends.server.connection.is_plain());
  CHECK(ends.server.connection.state().local_reason == decline_code::peer_no_smc);
  CHECK(ends.client.tcp.written() == 60000);
  CHECK(ends.server.tcp.written() == 60000);
}

TEST_CASE("connection: a young connection does not switch") {
  stack_options options;
  options.switch_calls = 10;
  options.switch_bytes = 1000;
  SUBCASE("few calls") {
    two_ends ends(options);
    converse(ends, 1, 2);
    CHECK(ends.client.tcp.written() == 2);
    CHECK(!ends.client.connection.is_established());
    CHECK(!ends.client.connection.is_plain());
  }
  SUBCASE("many calls") {
    two_ends ends(options);
    converse(ends, 20, 2);
    CHECK(ends.client.connection.is_established());
    CHECK(ends.server.connection.is_established());
  }
  SUBCASE("many calls for one long answer") {
    options.switch_bytes = 1'000'000;
    two_ends ends(options);
    for (int i = 0; i < 12; ++i) {
      CHECK(ends.server.write(std::string(6000, 'x')).value() == 6000);
      CHECK(ends.client.read_text(6000).size() == 6000);
    }
    converse(ends, 2, 2);
    CHECK(!ends.client.connection.is_established());
    // Calls count again once they are short on the average.
    converse(ends, 40, 2);
    CHECK(ends.client.connection.is_established());
  }
  SUBCASE("many bytes") {
    two_ends ends(options);
    converse(ends, 8, 1000);
    CHECK(ends.client.connection.is_established());
    CHECK(ends.server.connection.is_established());
  }
}

TEST_CASE("connection: a young connection is known to nobody, and its bytes count later") {
  stack_options options;
  options.switch_calls = 10;
  options.switch_bytes = 1'000'000;
  ends_options how;
  how.are_young = true;
  two_ends ends(options, how);
  converse(ends, 4, 2);
  CHECK(ends.client.connection.is_young());
  CHECK(ends.server.connection.is_young());
  CHECK(ends.client.connection.readable_size(ends.client.tcp) == 0);
  CHECK(!ends.client.connection.has_input(ends.client.tcp));
  CHECK(ends.client.connection.is_young());
  converse(ends, 20, 2);
  CHECK(ends.client.connection.is_established());
  CHECK(ends.server.connection.is_established());
  CHECK(ends.client.connection.state().sending.offset() == 48);
  CHECK(ends.client.connection.state().receiving.offset() == 48);
}

TEST_CASE("connection: one that grows while a byte is under way counts that byte, too") {
  ends_options how;
  how.are_young = true;
  two_ends ends({.switch_calls = 10}, how);
  REQUIRE(ends.server.write("12345"));
  ends.client.tcp.before = [&](support::fake_tcp::call) {
    // As another thread would; fork does it too.
    ends.client.connection.grow_up(ends.client.tcp);
    REQUIRE(!ends.client.connection.is_young());
  };
  CHECK(ends.client.read_text() == "12345");
  ends.client.tcp.before = nullptr;
  CHECK(ends.client.connection.state().receiving.offset() == 5);
  converse(ends, 20, 2);
  CHECK(ends.client.connection.is_established());
}

TEST_CASE("connection: a socket whose options TCP must serve stays there") {
  SUBCASE("the client's") {
    two_ends ends;
    ends.client.tcp.may_leave = false;
    converse(ends);
    CHECK(ends.client.tcp.written() == 4000);
    CHECK(ends.client.connection.state().local_reason == decline_code::option_unsupported);
  }
  SUBCASE("the server's") {
    two_ends ends;
    ends.server.tcp.may_leave = false;
    converse(ends);
    CHECK(ends.server.tcp.written() == 4000);
    CHECK(ends.server.connection.state().local_reason == decline_code::option_unsupported);
  }
}

// ---- SMC-D -------------------------------------------------------------------

TEST_CASE("connection: two ends meet, shake hands, and move to DMBs in both directions") {
  two_ends ends;
  REQUIRE(ends.establish());
  for (const auto* end : {&ends.client, &ends.server}) {
    CHECK(end->connection.is_established());
    CHECK(!end->connection.is_plain());
    CHECK(end->connection.sends_on() == lane::dmb);
    CHECK(end->connection.state().local_reason == decline_code::none);
    CHECK(end->connection.state().dmb_token != 0);
    CHECK(end->connection.state().dmb_code == 0);
  }
  const auto& client = ends.client.connection.state();
  const auto& server = ends.server.connection.state();
  CHECK(client.peer == server.self);
  CHECK(server.peer == client.self);
  CHECK(client.peer_token == server.dmb_token);
  CHECK(server.peer_token == client.dmb_token);
  CHECK(client.link_id == server.link_id);
  CHECK(clc_bytes(ends.client) == 224 + 130);
  CHECK(clc_bytes(ends.server) == 130);

  converse(ends, 200, 1000);
  CHECK(ends.client.connection.receives_on() == lane::dmb);
  CHECK(client.sending.dmb_bytes() == 200'000);
  CHECK(server.receiving.dmb_bytes() == 200'000);
  CHECK(client.sending.offset() == 200'001);
  CHECK(server.receiving.offset() == client.sending.offset());
  CHECK(ends.client.tcp.written() == 1 + 224 + 130);
  CHECK(ends.server.tcp.written() == 1 + 130);
  // The control record is what SMC-D says.
  CHECK(ends.client.side().token == client.dmb_token);
}

TEST_CASE("connection: the second connection of a pair is no first contact") {
  two_stacks stacks;
  two_ends one(stacks);
  REQUIRE(one.establish());
  two_ends two(stacks);
  REQUIRE(two.establish());
  CHECK(two.client.connection.state().link_id == one.client.connection.state().link_id);
  CHECK(clc_bytes(two.server) == 78);
  CHECK(clc_bytes(two.client) == 224 + 78);
}

TEST_CASE("connection: nothing is left when it is closed, and the memory is used again") {
  two_stacks stacks;
  std::uint32_t slot = 0;
  for (int i = 0; i < 50; ++i) {
    two_ends ends(stacks);
    REQUIRE(ends.establish());
    converse(ends, 2);
    dibs::record& record = ends.client.record();
    const std::uint32_t generation = dibs::generation_of(record.state);
    CHECK(ends.client.close() == connection::close_way::orderly);
    CHECK(dibs::generation_of(record.state) == generation);
    CHECK(ends.server.close() == connection::close_way::orderly);
    CHECK(dibs::generation_of(record.state) == generation + 1);
    CHECK((record.state.load() & dibs::record_state_mask) == dibs::record_free);
    auto* end = stacks.of_client().ends().claim();
    if (i == 0) slot = stacks.of_client().ends().index_of(end);
    CHECK(stacks.of_client().ends().index_of(end) == slot);
    stacks.of_client().ends().release(end);
  }
  CHECK(stacks.fabric.count_files(".dmb") == 2);
  const auto size = [&](const dibs::gid& owner, const dibs::gid& writer) {
    return std::filesystem::file_size(stacks.fabric.open().dmb_path(owner, writer).data());
  };
  // One chunk each, whatever the number of connections.
  CHECK(size(stacks.of_client().self().gid, stacks.of_server().self().gid) == 65536 + (4 << 20));
}

TEST_CASE("connection: each end has the buffer that it wants") {
  const stack_options small{.buffer_size = 16 * 1024};
  const stack_options large{.buffer_size = 1 << 20};
  two_stacks stacks(small, large);
  two_ends ends(stacks);
  REQUIRE(ends.establish());
  CHECK(ends.client.connection.state().dmb_code == 0);
  CHECK(ends.server.connection.state().dmb_code == 6);
  stream up(ends.client, ends.server);
  CHECK(up.write(2 << 20) == outcome::moved);
  CHECK(up.written == (1 << 20) - 32);
  stream down(ends.server, ends.client);
  CHECK(down.write(2 << 20) == outcome::moved);
  CHECK(down.written == 16352);
  CHECK(ends.server.connection.readable_size(ends.server.tcp) == (1 << 20) - 32);
  CHECK(ends.client.connection.unread_by_peer() == (1 << 20) - 32);
  CHECK(up.read_all() == outcome::wait);
  CHECK(down.read_all() == outcome::wait);
  CHECK(up.taken == up.written);
  CHECK(down.taken == down.written);
  CHECK(up.problem == "");
  CHECK(down.problem == "");

  two_ends wanting(stacks);
  wanting.client.tcp.buffer = 200'000;
  wanting.server.tcp.buffer = 1;
  REQUIRE(wanting.establish());
  CHECK(wanting.client.connection.state().dmb_code == 4);
  CHECK(wanting.server.connection.state().dmb_code == 0);
}

TEST_CASE("connection: a fabric without room for the buffer gives a smaller one") {
  // The link group's file is full: all but the smallest size is used up.
  two_stacks stacks(stack_options{.buffer_size = 4 << 20});
  two_ends ends(stacks);
  REQUIRE(ends.establish());
  CHECK(ends.client.connection.state().dmb_code == 8);
  converse(ends, 20, 100'000);
}

// ---- reading and writing -----------------------------------------------------

TEST_CASE("connection: a read takes what there is, into as many buffers as there are") {
  two_ends ends;
  REQUIRE(ends.establish());
  CHECK(ends.client.write("hello, ").value() == 7);
  CHECK(ends.client.write("world").value() == 5);
  char a[3];
  char b[4];
  char c[100];
  const iovec parts[] = {{a, 3}, {nullptr, 0}, {b, 4}, {c, 100}};
  const auto got =
      ends.server.connection.read_some(ends.server.tcp, parts, false, ends.clock().now());
  REQUIRE(got.has_value());
  CHECK(*got == 12);
  CHECK(std::string(a, 3) + std::string(b, 4) + std::string(c, 5) == "hello, world");
  CHECK(ends.server.read_text() == "(wait)");
}

TEST_CASE("connection: peeking takes nothing, on either lane") {
  two_ends ends;
  CHECK(ends.client.write("before").value() == 6);
  CHECK(ends.server.read_text(4, true) == "befo");
  CHECK(ends.server.read_text(4, true) == "befo");
  CHECK(ends.server.read_text() == "before");
  REQUIRE(ends.establish());
  CHECK(ends.client.write("after").value() == 5);
  CHECK(ends.server.read_text(100, true) == "after");
  CHECK(ends.server.read_text(3, true) == "aft");
  CHECK(ends.server.read_text(3) == "aft");
  CHECK(ends.server.read_text(100, true) == "er");
  CHECK(ends.server.read_text() == "er");
  CHECK(ends.server.read_text(100, true) == "(wait)");
}

TEST_CASE("connection: nothing to write and nowhere to read are nothing done") {
  two_ends ends;
  REQUIRE(ends.establish());
  CHECK(ends.client.write("").value() == 0);
  CHECK(ends.client.connection.write_some(ends.client.tcp, {}, ends.clock().now()).value() == 0);
  CHECK(!ends.server.connection.has_input(ends.server.tcp));
  CHECK(ends.client.write("x").value() == 1);
  static_cast<void>(ends.server.read({}));
  CHECK(ends.server.read_text() == "x");
}

TEST_CASE("connection: what can be read is known before it is read") {
  two_ends ends;
  const auto readable = [&] { return ends.server.connection.readable_size(ends.server.tcp); };
  const auto has_input = [&] { return ends.server.connection.has_input(ends.server.tcp); };
  CHECK(readable() == 0);
  CHECK(!has_input());
  CHECK(ends.client.write("raw").value() == 3);
  CHECK(readable() == 3);
  CHECK(has_input());
  CHECK(ends.server.read_text(1) == "r");
  // A CLC message behind them is nothing to read.
  ends.client.connection.advance(ends.client.tcp);
  CHECK(has_input());
  ends.client.connection.advance(ends.client.tcp);
  CHECK(ends.client.tcp.written() > 3);
  CHECK(readable() == 2);
  CHECK(ends.server.read_text(1) == "a");
  CHECK(readable() == 1);
  CHECK(has_input());
  CHECK(ends.server.read_text() == "w");
  CHECK(readable() == 0);
  CHECK(!has_input());
  REQUIRE(ends.establish());
  CHECK(!has_input());
  CHECK(!ends.server.connection.input_hint());
  CHECK(!ends.server.connection.has_dmb_input(ends.server.tcp));
  CHECK(ends.client.write("ring").value() == 4);
  CHECK(ends.server.connection.input_hint());
  CHECK(ends.server.connection.has_dmb_input(ends.server.tcp));
  CHECK(readable() == 4);
  CHECK(has_input());
  CHECK(ends.server.read_text() == "ring");
  CHECK(readable() == 0);
  CHECK(!has_input());
}

// ---- the end -----------------------------------------------------------------

TEST_CASE("connection: the end of the stream comes behind the last byte, and stays") {
  two_ends ends;
  REQUIRE(ends.establish());
  SUBCASE("shutdown") {
    CHECK(ends.client.write("last words").value() == 10);
    ends.client.shutdown_write();
    CHECK(ends.server.connection.peer_is_done_sending());
    CHECK(ends.server.connection.has_input(ends.server.tcp));
    CHECK(ends.server.read_text(4) == "last");
    CHECK(ends.server.read_text() == " words");
    CHECK(ends.server.connection.has_input(ends.server.tcp));
    CHECK(ends.server.read_text() == "(end)");
    CHECK(ends.server.read_text() == "(end)");
    CHECK(ends.server.read_text(1, true) == "(end)");
    CHECK(ends.client.write("more").error() == dibs::system_error(EPIPE));
    // The other direction goes on, in the DMB.
    stream down(ends.server, ends.client);
    CHECK(down.carry(100'000));
    CHECK(ends.server.connection.state().sending.dmb_bytes() == 100'000);
    CHECK(ends.server.connection.sends_on() == lane::dmb);
    ends.server.shutdown_write();
    CHECK(ends.client.read_text() == "(end)");
  }
  SUBCASE("close") {
    CHECK(ends.client.write("last words").value() == 10);
    CHECK(ends.client.close() == connection::close_way::orderly);
    CHECK(ends.server.read_text() == "last words");
    CHECK(ends.server.read_text() == "(end)");
    CHECK(ends.server.connection.has_input(ends.server.tcp));
    // TCP's answers: the first byte provokes the reset, the next one meets it.
    CHECK(ends.server.write("x").value() == 1);
    CHECK(ends.server.write("x").error() == dibs::system_error(ECONNRESET));
    CHECK(ends.server.write("x").error() == dibs::system_error(EPIPE));
  }
}

TEST_CASE("connection: a CLC message after the handshake breaks the connection, at once") {
  two_ends ends;
  REQUIRE(ends.establish());
  std::uint32_t published = ends.client.connection.state().sending.marks;
  const std::uint64_t offset = ends.client.connection.state().sending.offset();
  smcd::publish_mark(ends.client.side(), published, {offset + 2, smcd::mark_clc, 40});
  REQUIRE(ends.client.write("hello").has_value());
  // What stands before it is read.
  CHECK(ends.server.read_text() == "he");
  CHECK(ends.server.connection.has_input(ends.server.tcp));
  std::byte one{};
  CHECK(ends.server.read({&one, 1}).error() == smcd::errc::protocol_violation);
}

TEST_CASE("connection: a half-closed peer is written to in the DMB, from before the switch on") {
  // The server shuts down before the handshake has come to it.
  two_ends ends;
  CHECK(ends.client.write("request").value() == 7);
  CHECK(ends.server.read_text() == "request");
  ends.client.shutdown_write();
  CHECK(ends.server.read_text() == "(end)");
  stream down(ends.server, ends.client);
  CHECK(down.carry(50'000));
  ends.server.shutdown_write();
  CHECK(ends.client.read_text() == "(end)");
}

TEST_CASE("connection: close with unread bytes is a reset, as TCP does it") {
  two_ends ends;
  REQUIRE(ends.establish());
  CHECK(ends.client.write("unread").value() == 6);
  SUBCASE("all of it") {}
  SUBCASE("some of it") { CHECK(ends.server.read_text(3) == "unr"); }
  CHECK(ends.server.write("answer").value() == 6);
  CHECK(ends.server.close() == connection::close_way::reset);
  // What was sent before comes first.
  CHECK(ends.client.connection.has_input(ends.client.tcp));
  CHECK(ends.client.read_text() == "answer");
  CHECK(ends.client.read_text() == "(Connection reset by peer)");
  CHECK(ends.client.read_text() == "(end)");
  CHECK(ends.client.write("x").error() == dibs::system_error(EPIPE));
}

TEST_CASE("connection: a reset is told by the read, not swallowed by the question before it") {
  two_ends ends;
  REQUIRE(ends.establish());
  CHECK(ends.client.write("unread").value() == 6);
  CHECK(ends.server.close() == connection::close_way::reset);
  CHECK(ends.client.connection.has_input(ends.client.tcp));
  CHECK(ends.client.connection.has_input(ends.client.tcp));
  CHECK(ends.client.read_text() == "(Connection reset by peer)");
}

TEST_CASE("connection: a closed peer's reader is told also when no byte moved") {
  two_ends ends;
  REQUIRE(ends.establish());
  CHECK(ends.server.close() == connection::close_way::orderly);
  CHECK(ends.client.connection.has_input(ends.client.tcp));
  CHECK(ends.client.read_text() == "(end)");
}

TEST_CASE("connection: a socket that is unread on the TCP lane resets by itself") {
  two_ends ends;
  CHECK(ends.client.write("unread").value() == 6);
  CHECK(ends.server.close() == connection::close_way::orderly);
  CHECK(ends.client.tcp.is_reset());
  CHECK(ends.client.read_text() == "(Connection reset by peer)");
}

// ---- fork --------------------------------------------------------------------

TEST_CASE("connection: a connection of two processes stays where it is until one lets go") {
  two_ends ends;
  ends.client.connection.share();
  converse(ends);
  CHECK(ends.client.tcp.written() == 4000);
  CHECK(ends.client.stage() == end_stage::candidate);
  // The other process closed its copy: nothing of ours goes.
  ends.client.connection.unshare();
  converse(ends);
  CHECK(ends.client.connection.is_established());

  // Once established both processes may use it.
  ends.client.connection.share();
  converse(ends);
  CHECK(ends.client.connection.is_established());
  ends.client.connection.unshare();
}

TEST_CASE("connection: the first of two closes says nothing to the peer") {
  two_ends ends;
  REQUIRE(ends.establish());
  ends.client.connection.share();
  CHECK(ends.client.write("still here").value() == 10);
  const std::uint64_t before = ends.client.record().state.load();
  // As a child's exit does it.
  CHECK(ends.client.connection.say_goodbye(ends.client.tcp) == connection::close_way::orderly);
  CHECK(ends.client.record().state.load() == before);
  CHECK(ends.server.read_text() == "still here");
  CHECK(ends.server.read_text() == "(wait)");
  CHECK(ends.client.write("!").value() == 1);
  CHECK(ends.server.read_text() == "!");
}

TEST_CASE("connection: a goodbye is a close that leaves the connection to running threads") {
  two_ends ends;
  REQUIRE(ends.establish());
  CHECK(ends.server.write("unread").value() == 6);
  CHECK(ends.client.write("last").value() == 4);
  CHECK(ends.client.connection.say_goodbye(ends.client.tcp) == connection::close_way::reset);
  CHECK(ends.server.connection.peer_is_done_sending());
  CHECK(ends.server.read_text() == "last");
  CHECK(ends.client.read_text() == "unread");
}
