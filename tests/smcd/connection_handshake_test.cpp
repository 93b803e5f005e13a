// SPDX-License-Identifier: Apache-2.0
// The handshake of a connection, whatever happens in the middle of it.
#include <smcd/connection.hpp>

#include <support/stream.hpp>
#include <support/two_ends.hpp>

#include <doctest/doctest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

using smcd::connection;
using smcd::decline_code;
using smcd::end_stage;
using smcd::lane;
using support::end_point;
using support::ends_options;
using support::fake_tcp;
using support::stack_options;
using support::stream;
using support::two_ends;
using support::two_stacks;
using outcome = support::stream::outcome;

namespace {

void converse(two_ends& ends, int turns = 40, std::size_t size = 100) {
  stream up(ends.client, ends.server);
  stream down(ends.server, ends.client);
  for (int i = 0; i < turns; ++i) {
    REQUIRE(up.carry(size));
    REQUIRE(down.carry(size));
  }
}

// Each writes so much in turn, and reads less. All of it arrives.
void converse_until_established(two_ends& ends, int turns, std::size_t written, std::size_t read_up,
                                std::size_t read_down) {
  stream up(ends.client, ends.server);
  stream down(ends.server, ends.client);
  for (int i = 0; i < turns && !ends.server.connection.is_established(); ++i) {
    up.write(written);
    down.write(written);
    up.read(read_up);
    down.read(read_down);
  }
  CHECK(ends.server.connection.is_established());
  CHECK(up.read_all() == outcome::wait);
  CHECK(down.read_all() == outcome::wait);
  CHECK(up.problem == "");
  CHECK(down.problem == "");
  CHECK(up.taken == up.written);
  CHECK(down.taken == down.written);
}

// Bytes on the TCP lane that the application did not send.
std::uint64_t extra_bytes(const end_point& end) {
  const auto& sending = end.connection.state().sending;
  return end.tcp.written() - (sending.offset() - sending.dmb_bytes());
}

enum class step { candidate, joined, proposal_sent, accept_sent, confirm_sent, established };

// One byte, so that it is due, and the handshake as far as that. `unread` more
// bytes were sent in time and wait at the server.
void go_to(two_ends& ends, step wanted, std::size_t unread = 0) {
  connection& client = ends.client.connection;
  connection& server = ends.server.connection;
  REQUIRE(ends.client.stage() == end_stage::candidate);
  if (wanted == step::candidate) return;
  // Both calls make it due; the server joins what the client published, and the
  // client knows of it from its next call on.
  std::vector<std::byte> bytes(1 + unread);
  REQUIRE(ends.client.tcp.send(bytes).has_value());
  REQUIRE(ends.server.tcp.receive(std::span(bytes).first(1)).has_value());
  const_cast<smcd::end_state&>(client.state()).sending.tcp_bytes = 1 + unread;
  const_cast<smcd::end_state&>(server.state()).receiving.tcp_bytes = 1;
  client.advance(ends.client.tcp);
  server.advance(ends.server.tcp);
  REQUIRE(ends.server.stage() == end_stage::joined);
  if (wanted == step::joined) return;
  client.advance(ends.client.tcp);
  REQUIRE(ends.client.stage() == end_stage::handshake);
  if (wanted == step::proposal_sent) return;
  server.advance(ends.server.tcp);
  REQUIRE(ends.server.stage() == end_stage::handshake);
  if (wanted == step::accept_sent) return;
  client.advance(ends.client.tcp);
  REQUIRE(ends.client.stage() == end_stage::established);
  if (wanted == step::confirm_sent) return;
  server.advance(ends.server.tcp);
  REQUIRE(ends.server.stage() == end_stage::established);
}

constexpr step all_steps[] = {step::candidate,   step::joined,       step::proposal_sent,
                              step::accept_sent, step::confirm_sent, step::established};

}  // namespace

// ---- pieces ------------------------------------------------------------------

TEST_CASE("handshake on a lane: every message comes byte by byte") {
  for (const bool is_sent_so : {false, true}) {
    for (const bool arrives_so : {false, true}) {
      for (const bool is_received_so : {false, true}) {
        ends_options how;
        if (is_sent_so) how.rules.most_sent = 1;
        if (arrives_so) how.rules.most_arriving = 1;
        if (is_received_so) how.rules.most_received = 1;
        two_ends ends({}, how);
        CHECK(ends.establish());
        converse(ends);
        CHECK(extra_bytes(ends.client) == 224 + 130);
        CHECK(extra_bytes(ends.server) == 130);
      }
    }
  }
}

TEST_CASE("handshake on a lane: a message that does not fit goes out in pieces, and alone") {
  for (const std::size_t capacity : {230U, 250U, 300U}) {
    ends_options how;
    how.rules.capacity = capacity;
    two_ends ends({}, how);
    // The lane is nearly full whenever a message begins.
    converse_until_established(ends, 200, capacity - 50, 90, 70);
    converse(ends);
  }
}

TEST_CASE("handshake on a lane: a message of which the kernel has room for a part only") {
  for (const std::size_t capacity : {1U, 50U, 129U}) {
    CAPTURE(capacity);
    ends_options how;
    how.rules.capacity = capacity;
    two_ends ends({}, how);
    converse_until_established(ends, 5000, 10, 10, 10);
    CHECK(extra_bytes(ends.client) == 224 + 130);
    CHECK(extra_bytes(ends.server) == 130);
    converse(ends);
  }
}

TEST_CASE("handshake on a lane: a mark that changes under a message read in part") {
  for (const std::uint32_t length : {0U, 1U, 49U, 50U, 51U, 225U, smcd::longest_clc, ~0U}) {
    CAPTURE(length);
    ends_options how;
    how.rules.capacity = 50;
    two_ends ends({}, how);
    stream up(ends.client, ends.server);
    go_to(ends, step::proposal_sent);
    ends.server.connection.advance(ends.server.tcp);
    REQUIRE(ends.server.connection.state().receiving.clc_bytes == 50);
    ends.client.record().client.marks[0].length = length;
    for (int i = 0; i < 20; ++i) {
      ends.server.connection.advance(ends.server.tcp);
      ends.client.connection.advance(ends.client.tcp);
    }
    CHECK(!ends.server.connection.is_established());
    CHECK(ends.server.connection.state().receiving.clc_bytes <= smcd::longest_clc);
  }
}

TEST_CASE("handshake on a lane: application bytes go on between messages") {
  two_ends ends;
  stream up(ends.client, ends.server);
  stream down(ends.server, ends.client);
  std::uint64_t sent_before_switch = 0;
  for (int i = 0; i < 20; ++i) {
    up.write(10);
    down.write(20);
    if (!ends.client.connection.is_established()) sent_before_switch = up.written;
    up.read(5);
    down.read(7);
  }
  CHECK(ends.client.connection.is_established());
  CHECK(sent_before_switch > 10);
  CHECK(up.read_all() == outcome::wait);
  CHECK(down.read_all() == outcome::wait);
  CHECK(up.problem == "");
  CHECK(down.problem == "");
  CHECK(up.taken == up.written);
  CHECK(down.taken == down.written);
}

TEST_CASE("handshake on a lane: one thread that only writes, then only reads, is not stuck") {
  two_ends ends;
  stream up(ends.client, ends.server);
  stream down(ends.server, ends.client);
  for (int i = 0; i < 50; ++i) {
    CHECK(up.write(1000) == outcome::moved);
    CHECK(down.write(1000) == outcome::moved);
  }
  CHECK(up.read_all() == outcome::wait);
  CHECK(down.read_all() == outcome::wait);
  CHECK(up.taken == 50000);
  CHECK(down.taken == 50000);
}

// ---- declines ----------------------------------------------------------------

namespace {

struct expected {
  decline_code client_local, client_peer, server_local, server_peer;
};

void expect_tcp(two_ends& ends, const expected& reasons) {
  for (int i = 0; i < 5; ++i) {
    ends.client.connection.advance(ends.client.tcp);
    ends.server.connection.advance(ends.server.tcp);
  }
  converse(ends);
  for (const auto* end : {&ends.client, &ends.server}) {
    CHECK(!end->connection.is_established());
    CHECK(end->connection.sends_on() == lane::tcp);
    CHECK(end->connection.state().sending.dmb_bytes() == 0);
    // No memory is kept for what did not come about.
    CHECK(end->connection.state().dmb_token == 0);
    CHECK(end->connection.state().peer_token == 0);
  }
  CHECK(ends.client.connection.state().local_reason == reasons.client_local);
  CHECK(ends.client.connection.state().peer_reason == reasons.client_peer);
  CHECK(ends.server.connection.state().local_reason == reasons.server_local);
  CHECK(ends.server.connection.state().peer_reason == reasons.server_peer);
  // And nothing is left that could still be mistaken.
  CHECK(ends.client.connection.is_plain());
  CHECK(ends.server.connection.is_plain());
  const auto size = ends.client.tcp.written();
  converse(ends, 10, 10);
  CHECK(ends.client.tcp.written() == size + 100);
}

}  // namespace

TEST_CASE("handshake on a lane: no UEID in common ends in TCP") {
  two_stacks stacks(stack_options{.ueid = "HERE"}, stack_options{.ueid = "THERE"});
  two_ends ends(stacks);
  go_to(ends, step::proposal_sent);
  expect_tcp(ends, {decline_code::peer_declined, decline_code::no_smcd_device,
                    decline_code::no_smcd_device, decline_code::none});
}

TEST_CASE("handshake on a lane: a Proposal of another connection is declined") {
  two_ends ends;
  go_to(ends, step::proposal_sent);
  ends.client.record().nonce ^= 1;
  expect_tcp(ends, {decline_code::peer_declined, decline_code::internal_error,
                    decline_code::internal_error, decline_code::none});
}

TEST_CASE("handshake on a lane: an end that is not the one of the record is declined") {
  two_ends ends;
  SUBCASE("the client's device") {
    go_to(ends, step::proposal_sent);
    ends.client.side().device.bytes[3] ^= 1;
    expect_tcp(ends, {decline_code::peer_declined, decline_code::internal_error,
                      decline_code::internal_error, decline_code::none});
  }
  SUBCASE("the server's device") {
    go_to(ends, step::accept_sent);
    ends.server.side().device.bytes[3] ^= 1;
    expect_tcp(ends, {decline_code::internal_error, decline_code::none, decline_code::peer_declined,
                      decline_code::internal_error});
  }
  SUBCASE("the server's DMB") {
    go_to(ends, step::accept_sent);
    ends.server.side().token ^= 1;
    expect_tcp(ends, {decline_code::internal_error, decline_code::none, decline_code::peer_declined,
                      decline_code::internal_error});
  }
}

namespace {

// Takes every DMB that `owner` has for `writer`.
void use_up(smcd::stack& owner, smcd::stack& writer) {
  while (owner.device().register_dmb(writer.self().gid, dibs::min_dmb_size).has_value()) {
  }
}

}  // namespace

TEST_CASE("handshake on a lane: no DMB left ends in TCP") {
  two_stacks stacks;
  two_ends ends(stacks);
  SUBCASE("at the server") {
    use_up(stacks.of_server(), stacks.of_client());
    go_to(ends, step::proposal_sent);
    expect_tcp(ends, {decline_code::peer_declined, decline_code::no_dmb_left,
                      decline_code::no_dmb_left, decline_code::none});
  }
  SUBCASE("at the client") {
    use_up(stacks.of_client(), stacks.of_server());
    go_to(ends, step::accept_sent);
    expect_tcp(ends, {decline_code::no_dmb_left, decline_code::none, decline_code::peer_declined,
                      decline_code::no_dmb_left});
  }
}

TEST_CASE("handshake on a lane: a client that cannot attach declines") {
  two_stacks stacks;
  two_ends ends(stacks);
  go_to(ends, step::accept_sent);
  stacks.of_server().device().unregister_dmb(stacks.of_client().self().gid,
                                             {ends.server.connection.state().dmb_token});
  expect_tcp(ends, {decline_code::memory, decline_code::none, decline_code::peer_declined,
                    decline_code::memory});
}

TEST_CASE("handshake on a lane: a server that cannot attach leaves its direction on TCP") {
  two_stacks stacks;
  two_ends ends(stacks);
  go_to(ends, step::confirm_sent);
  stacks.of_client().device().unregister_dmb(stacks.of_server().self().gid,
                                             {ends.client.connection.state().dmb_token});
  stream up(ends.client, ends.server);
  stream down(ends.server, ends.client);
  // The client does not know, and is in the DMB already.
  CHECK(up.write(5000) == outcome::moved);
  CHECK(ends.client.connection.state().sending.dmb_bytes() == 5000);
  for (int i = 0; i < 20; ++i) {
    CHECK(down.carry(3000));
    CHECK(up.carry(3000));
  }
  CHECK(ends.server.connection.is_established());
  CHECK(ends.server.connection.state().sending.dmb_bytes() == 0);
  // It came back.
  CHECK(ends.client.connection.sends_on() == lane::tcp);
  CHECK(ends.client.connection.state().sending.dmb_bytes() < 10000);
  CHECK(up.problem == "");
}

// ---- bytes that went past us ---------------------------------------------------

TEST_CASE("handshake on a lane: bytes that went past us keep the connection on TCP") {
  struct {
    const char* name;
    std::size_t unread;  // by the server
    std::function<void(two_ends&)> go_past;
    std::size_t hidden;  // bytes that the client will read besides
  } const cases[] = {
      {"written by the client", 0,
       [](two_ends& ends) {
         std::byte bytes[5]{};
         ends.client.tcp.hidden_send(bytes);
         CHECK(ends.server.read_text().size() == 5);
       },
       0},
      {"read by the client", 0,
       [](two_ends& ends) {
         std::byte bytes[5];
         REQUIRE(ends.server.write("12345").value() == 5);
         CHECK(ends.client.tcp.hidden_receive(bytes) == 5);
       },
       0},
      {"written by the server", 0,
       [](two_ends& ends) {
         std::byte bytes[5]{};
         ends.server.tcp.hidden_send(bytes);
         CHECK(ends.client.read_text().size() == 5);
       },
       0},
      {"written by the server, and not read yet", 0,
       [](two_ends& ends) {
         std::byte bytes[5]{};
         ends.server.tcp.hidden_send(bytes);
       },
       5},
      {"read by the server", 5,
       [](two_ends& ends) {
         std::byte bytes[5];
         CHECK(ends.server.tcp.hidden_receive(bytes) == 5);
       },
       0},
      {"partly read by the server", 5,
       [](two_ends& ends) {
         std::byte bytes[2];
         CHECK(ends.server.tcp.hidden_receive(bytes) == 2);
         CHECK(ends.server.read_text().size() == 3);
       },
       0},
  };
  for (const auto& one : cases) {
    for (const step at : {step::candidate, step::joined}) {
      if (at == step::candidate && one.unread > 0) continue;
      INFO(one.name << ", step " << static_cast<int>(at));
      two_ends ends;
      go_to(ends, at, one.unread);
      one.go_past(ends);
      stream up(ends.client, ends.server);
      std::string got;
      for (int i = 0; i < 50; ++i) {
        REQUIRE(up.carry(100));
        if (i < 40) REQUIRE(ends.server.write("answer").value() == 6);
        const std::string text = ends.client.read_text();
        if (text != "(wait)") got += text;
      }
      // The client got what the server wrote, seen or not, and no CLC byte.
      REQUIRE(got.size() == one.hidden + 40 * 6);
      CHECK(got.substr(one.hidden, 12) == "answeranswer");
      CHECK(!ends.client.connection.is_established());
      CHECK(!ends.server.connection.is_established());
      CHECK(ends.client.connection.sends_on() == lane::tcp);
      CHECK(ends.server.connection.sends_on() == lane::tcp);
    }
  }
}

TEST_CASE("handshake on a lane: a kernel that cannot count keeps the connection on TCP") {
  two_ends ends;
  SUBCASE("the client's") { ends.client.tcp.knows_counters = false; }
  SUBCASE("the server's") { ends.server.tcp.knows_counters = false; }
  converse(ends);
  CHECK(!ends.client.connection.is_established());
  CHECK(!ends.server.connection.is_established());
}

TEST_CASE(
    "handshake on a lane: nobody speaks CLC to the dead, whose kernel would answer with RST") {
  for (const step at : {step::joined, step::proposal_sent, step::accept_sent}) {
    INFO("step " << static_cast<int>(at));
    two_ends ends;
    go_to(ends, at);
    const bool is_server_next = at == step::proposal_sent;
    end_point& living = is_server_next ? ends.server : ends.client;
    const smcd::stack& dead =
        is_server_next ? ends.stacks().of_client() : ends.stacks().of_server();
    const std::uint64_t written = living.tcp.written();
    // As after kill -9: no goodbye in the record, and nobody holds its home.
    std::filesystem::remove(ends.stacks().fabric.open().home_path(dead.self().gid).data());
    living.connection.advance(living.tcp);
    CHECK(living.tcp.written() == written);
    CHECK(!living.connection.is_established());
    CHECK(living.stage() != end_stage::handshake);
  }
}

// ---- staying on TCP ------------------------------------------------------------

TEST_CASE("handshake on a lane: either end may stay on TCP at any step") {
  for (const step at : all_steps) {
    for (const bool is_client : {true, false}) {
      INFO("step " << static_cast<int>(at) << ", client " << is_client);
      two_ends ends;
      go_to(ends, at);
      end_point& refusing = is_client ? ends.client : ends.server;
      refusing.connection.stay_on_tcp(decline_code::option_unsupported);
      converse(ends, 100);
      // Whatever was in the DMB is through, and both are back.
      CHECK(ends.client.connection.sends_on() == lane::tcp);
      CHECK(ends.server.connection.sends_on() == lane::tcp);
      const auto dmb_bytes = ends.client.connection.state().sending.dmb_bytes() +
                             ends.server.connection.state().sending.dmb_bytes();
      converse(ends, 20);
      CHECK(ends.client.connection.state().sending.dmb_bytes() +
                ends.server.connection.state().sending.dmb_bytes() ==
            dmb_bytes);
      if (at <= step::joined) {
        CHECK(extra_bytes(ends.client) + extra_bytes(ends.server) == 0);
      }
    }
  }
}

TEST_CASE("handshake on a lane: staying on TCP finishes a message that is half sent") {
  for (const std::size_t most : {1U, 100U, 223U}) {
    for (const bool is_client : {true, false}) {
      two_ends ends;
      end_point& refusing = is_client ? ends.client : ends.server;
      go_to(ends, is_client ? step::joined : step::proposal_sent);
      end_point& other = is_client ? ends.server : ends.client;
      // Room for a part of it only.
      refusing.tcp.rules().capacity = other.tcp.pending() + std::min<std::size_t>(most, 129);
      refusing.connection.advance(refusing.tcp);
      CHECK(extra_bytes(refusing) == std::min<std::size_t>(most, 129));
      refusing.connection.stay_on_tcp(decline_code::option_unsupported);
      CHECK(dibs::is_would_block(refusing.write("not in between").error()));
      refusing.tcp.rules().capacity = 100'000;
      converse(ends, 60);
      CHECK(ends.client.connection.sends_on() == lane::tcp);
      CHECK(ends.server.connection.sends_on() == lane::tcp);
    }
  }
}

// ---- the peer goes -------------------------------------------------------------

namespace {

enum class leaving { vanish_fin, vanish_rst, close, half_close };

void leave(end_point& end, leaving how) {
  switch (how) {
    case leaving::vanish_fin: end.vanish(); break;
    case leaving::vanish_rst: end.tcp.reset(); break;
    case leaving::close:
      if (end.connection.is_open()) static_cast<void>(end.close());
      break;
    case leaving::half_close: end.shutdown_write(); break;
  }
}

// One end goes when the survivor's lane is called for the nth time, in the very
// middle of what the survivor does; with a burst of reads and writes before
// that, or not. False if the program was over before.
bool run_until_call(std::uint64_t n, bool client_goes, leaving how, bool has_burst,
                    std::uint64_t seed) {
  ends_options rules;
  if (seed % 4 == 3) {
    rules.rules.most_arriving = rules.rules.most_sent = 50;
    rules.rules.is_random = true;
    rules.rules.seed = seed;
  }
  static two_stacks stacks;
  two_ends ends(stacks, rules);
  end_point& gone = client_goes ? ends.client : ends.server;
  end_point& survivor = client_goes ? ends.server : ends.client;
  stream to_survivor(gone, survivor);
  stream from_survivor(survivor, gone);
  bool has_left = false;
  std::uint64_t count = 0;
  std::function<void(fake_tcp::call)> hook = [&](fake_tcp::call) {
    if (has_left || ++count < n) return;
    has_left = true;
    if (has_burst) {
      to_survivor.write(300);
      from_survivor.read(200);
      to_survivor.write(700);
    }
    leave(gone, how);
  };
  survivor.tcp.before = hook;
  support::random random(seed);
  for (int i = 0; i < 60 && !has_left; ++i) {
    switch (random.below(4)) {
      case 0: to_survivor.write(random.between(1, 700)); break;
      case 1: from_survivor.write(random.between(1, 700)); break;
      case 2: to_survivor.read(random.between(1, 2000)); break;
      case 3: from_survivor.read(random.between(1, 2000)); break;
    }
  }
  survivor.tcp.before = nullptr;
  if (!has_left) return false;
  // The survivor gets all that was published, then the end or a reset.
  const outcome last = to_survivor.read_all(333);
  CHECK(to_survivor.problem == "");
  CHECK(to_survivor.taken == to_survivor.written);
  CHECK((last == outcome::end || last == outcome::failed));
  if (last == outcome::failed) CHECK(to_survivor.failure == dibs::system_error(ECONNRESET));
  if (how == leaving::half_close) {
    // And what it writes still arrives.
    CHECK(last == outcome::end);
    CHECK(from_survivor.carry(3000));
    CHECK(from_survivor.read_all() == outcome::wait);
    CHECK(from_survivor.taken == from_survivor.written);
    CHECK(from_survivor.problem == "");
    return true;
  }
  // What it writes fails before long, and never stands still.
  outcome written = outcome::moved;
  for (int i = 0; i < 100 && written == outcome::moved; ++i) written = from_survivor.write(500);
  CHECK(written == outcome::failed);
  return true;
}

}  // namespace

TEST_CASE("handshake on a lane: the peer goes at any moment, and the survivor is told") {
  for (const bool client_goes : {true, false}) {
    for (const leaving how :
         {leaving::vanish_fin, leaving::vanish_rst, leaving::close, leaving::half_close}) {
      for (const bool has_burst : {false, true}) {
        for (std::uint64_t seed = 0; seed < 12; ++seed) {
          for (std::uint64_t n = 1; n < 5000; ++n) {
            INFO("client " << client_goes << ", way " << static_cast<int>(how) << ", burst "
                           << has_burst << ", call " << n << ", seed " << seed);
            if (run_until_call(n, client_goes, how, has_burst, seed)) continue;
            CHECK(n > 20);
            break;
          }
        }
      }
    }
  }
}

TEST_CASE("handshake on a lane: closing in the middle leaves no CLC byte that would reset") {
  for (const step at : all_steps) {
    for (const bool client_closes : {true, false}) {
      INFO("step " << static_cast<int>(at) << ", client " << client_closes);
      two_ends ends;
      go_to(ends, at);
      end_point& closing = client_closes ? ends.client : ends.server;
      end_point& other = client_closes ? ends.server : ends.client;
      CHECK(closing.close() == connection::close_way::orderly);
      CHECK(other.read_text() == "(end)");
      CHECK(!other.tcp.is_reset());
      CHECK(!closing.tcp.is_reset());
    }
  }
}

TEST_CASE("handshake on a lane: closing takes a message that the peer's kernel holds back") {
  for (const bool is_exit : {false, true}) {
    two_ends ends;
    go_to(ends, step::joined);
    ends.client.tcp.hold_back();
    ends.client.connection.advance(ends.client.tcp);
    REQUIRE(extra_bytes(ends.client) > 0);
    if (is_exit) {
      CHECK(ends.server.connection.say_goodbye(ends.server.tcp) == connection::close_way::orderly);
      ends.server.tcp.close();
    } else {
      CHECK(ends.server.close() == connection::close_way::orderly);
    }
    CHECK(!ends.client.tcp.is_reset());
    CHECK(ends.client.read_text() == "(end)");
  }
}

TEST_CASE("handshake on a lane: who shuts both directions waits for a message on its way") {
  for (const bool has_bytes : {false, true}) {
    two_ends ends;
    go_to(ends, step::joined);
    if (has_bytes) CHECK(ends.client.write("before it").value() == 9);
    ends.client.tcp.hold_back();
    ends.client.connection.advance(ends.client.tcp);
    REQUIRE(extra_bytes(ends.client) > 0);
    ends.server.shutdown_both();
    CHECK(!ends.client.tcp.is_reset());
    CHECK(ends.client.read_text() == "(end)");
    CHECK(ends.server.read_text() == (has_bytes ? "before it" : "(wait)"));
  }
}

TEST_CASE("handshake on a lane: closing waits for nothing but messages") {
  for (const auto kind : {smcd::mark_void, smcd::mark_to_dmb}) {
    two_ends ends;
    go_to(ends, step::joined);
    dibs::record_side& peer = ends.server.record().client;
    std::uint32_t published = peer.marks_published;
    smcd::publish_mark(peer, published, {ends.server.tcp.read(), kind, 0});
    const std::uint64_t calls = ends.server.tcp.calls;
    CHECK(ends.server.close() == connection::close_way::orderly);
    CHECK(ends.server.tcp.calls - calls < 50);
  }
}

TEST_CASE(
    "handshake on a lane: closing over unread bytes in the DMB is a reset, established or not") {
  two_ends ends;
  go_to(ends, step::confirm_sent);
  CHECK(ends.client.connection.sends_on() == lane::dmb);
  CHECK(ends.client.write("unread").value() == 6);
  CHECK(ends.server.close() == connection::close_way::reset);
}

TEST_CASE("handshake on a lane: a peer that enters the DMB before its time ends in an error") {
  two_ends ends;
  go_to(ends, step::accept_sent);
  // The server has a DMB, and waits for Confirm. Instead comes a mark.
  dibs::record_side& hostile = ends.client.side();
  std::uint32_t published = hostile.marks_published;
  smcd::publish_mark(hostile, published, {1, smcd::mark_to_dmb, 0});
  const std::string first = ends.server.read_text();
  // And then it declines.
  ends.client.connection.stay_on_tcp(decline_code::option_unsupported);
  ends.client.connection.advance(ends.client.tcp);
  ends.server.connection.advance(ends.server.tcp);
  CHECK(ends.server.connection.receives_on() == lane::tcp);
  CHECK(first == "(the peer violated the SMC-D protocol)");
  static_cast<void>(ends.server.connection.has_input(ends.server.tcp));
  CHECK(ends.server.connection.readable_size(ends.server.tcp) == 0);
  CHECK(ends.server.read_text() != "");
}

TEST_CASE("handshake on a lane: a peer that enters the DMB while Confirm is on its way, and goes") {
  for (const bool is_read_between : {false, true}) {
    two_ends ends;
    go_to(ends, step::accept_sent);
    // The client's lane takes a part of Confirm only.
    ends.client.tcp.rules().capacity = ends.server.tcp.pending() + 50;
    ends.client.connection.advance(ends.client.tcp);
    REQUIRE(ends.client.stage() == end_stage::handshake);
    dibs::record_side& hostile = ends.server.side();
    std::uint32_t published = hostile.marks_published;
    smcd::publish_mark(hostile, published, {0, smcd::mark_to_dmb, 0});
    if (is_read_between) CHECK(ends.client.read_text() == "(wait)");
    CHECK(!ends.client.connection.has_input(ends.client.tcp));
    CHECK(ends.client.connection.receives_on() == lane::tcp);
    ends.server.tcp.reset();
    ends.client.connection.advance(ends.client.tcp);
    CHECK(ends.client.stage() != end_stage::handshake);
    CHECK(ends.client.connection.has_input(ends.client.tcp));
    CHECK(ends.client.connection.readable_size(ends.client.tcp) == 0);
    CHECK(ends.client.read_text() != "(wait)");
  }
}
