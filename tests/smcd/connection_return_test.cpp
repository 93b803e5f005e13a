// SPDX-License-Identifier: Apache-2.0
// An end gives its connection to the kernel: whoever uses the socket from then
// on sees on the TCP lane what a program would see of a TCP connection.
#include <smcd/connection.hpp>

#include <smcd/error.hpp>
#include <support/random.hpp>
#include <support/two_ends.hpp>

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

using smcd::end_stage;
using smcd::lane;
using support::end_point;
using support::ends_options;
using support::stack_options;
using support::two_ends;
using after_leaving = smcd::connection::after_leaving;

namespace {

std::byte byte_at(std::uint64_t place, bool is_up) {
  return static_cast<std::byte>((place + (is_up ? 1 : 7)) * 0x9E3779B97F4A7C15 >> 40);
}

std::string take_raw(end_point& from) {
  std::vector<std::byte> bytes(100'000);
  const std::size_t size = from.tcp.hidden_receive(bytes);
  return {reinterpret_cast<const char*>(bytes.data()), size};
}

// Both ends, with bytes that know their place. Either may have left: then a
// stranger uses the kernel's calls, by turns with the end itself if it drains.
class conversation {
 public:
  explicit conversation(two_ends& ends) : ends_(ends) {}

  void write(bool is_up, std::size_t size, bool by_stranger = true) {
    end_point& from = is_up ? ends_.client : ends_.server;
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = byte_at(written_[is_up] + i, is_up);
    if (has_left(from) && (by_stranger || !drains_)) {
      written_[is_up] += from.tcp.hidden_send(bytes);
    } else if (const auto sent = from.write(bytes)) {
      written_[is_up] += *sent;
    } else {
      CHECK(dibs::is_would_block(sent.error()));
    }
  }
  std::size_t read(bool is_up, std::size_t size, bool by_stranger = true) {
    end_point& to = is_up ? ends_.server : ends_.client;
    std::vector<std::byte> bytes(size);
    std::size_t n = 0;
    if (has_left(to) && (by_stranger || !drains_)) {
      n = to.tcp.hidden_receive(bytes);
    } else if (const auto got = to.read(bytes)) {
      n = *got;
    } else {
      CHECK(dibs::is_would_block(got.error()));
    }
    for (std::size_t i = 0; i < n; ++i) {
      if (bytes[i] != byte_at(read_[is_up] + i, is_up)) ++wrong;
    }
    read_[is_up] += n;
    return n;
  }
  bool leave(bool is_client, after_leaving then = after_leaving::is_over) {
    end_point& leaver = is_client ? ends_.client : ends_.server;
    left_[is_client] = leaver.connection.give_to_kernel(leaver.tcp, then);
    drains_ = then == after_leaving::drains;
    return left_[is_client];
  }
  void finish() {
    for (int idle = 0; idle < 20; ++idle) {
      if (read(true, 100'000) + read(false, 100'000) > 0) idle = 0;
    }
    CHECK(wrong == 0);
    CHECK(read_[true] == written_[true]);
    CHECK(read_[false] == written_[false]);
  }

  std::uint64_t wrong = 0;

 private:
  [[nodiscard]] bool has_left(const end_point& end) const { return left_[end.is_client()]; }

  two_ends& ends_;
  std::uint64_t written_[2]{};  // [is_up]
  std::uint64_t read_[2]{};
  bool left_[2]{};  // [is_client]
  bool drains_ = false;
};

}  // namespace

TEST_CASE("return: a young connection just stays on TCP") {
  ends_options how;
  how.are_young = true;
  two_ends ends({.switch_calls = 10, .switch_bytes = 1000}, how);
  REQUIRE(ends.server.write("hello"));
  CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::is_over));
  CHECK(ends.client.connection.is_plain());
  CHECK(take_raw(ends.client) == "hello");
}

TEST_CASE("return: what the ring held unread comes over TCP, when the peer looks") {
  two_ends ends;
  REQUIRE(ends.establish());
  REQUIRE(ends.server.write("read, "));
  CHECK(ends.client.read_text() == "read, ");
  REQUIRE(ends.server.write("not "));
  REQUIRE(ends.server.write("read"));
  REQUIRE(ends.client.write("in the ring, "));
  CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::is_over));
  CHECK(ends.client.connection.is_plain());
  CHECK(take_raw(ends.client).empty());

  CHECK(ends.server.connection.input_hint());
  SUBCASE("it reads") { CHECK(ends.server.read_text() == "in the ring, "); }
  SUBCASE("it asks whether it could") {
    CHECK(ends.server.connection.has_dmb_input(ends.server.tcp));
    CHECK(ends.server.read_text() == "in the ring, ");
  }
  SUBCASE("it writes") {
    CHECK(ends.server.write(" - and more").value() == 11);
    CHECK(take_raw(ends.client) == "not read - and more");
    REQUIRE(ends.server.write("not read"));
    CHECK(ends.server.read_text() == "in the ring, ");
  }
  CHECK(take_raw(ends.client) == "not read");
  // And from then on both are on TCP.
  CHECK(ends.client.tcp.hidden_send(std::as_bytes(std::span("on TCP", 6))) == 6);
  CHECK(ends.server.read_text() == "on TCP");
  CHECK(ends.server.stage() == end_stage::candidate);
  CHECK(ends.server.write("too").value() == 3);
  CHECK(take_raw(ends.client) == "too");
}

TEST_CASE("return: the end that left reads on from its ring, as long as the peer has not looked") {
  two_ends ends;
  REQUIRE(ends.establish());
  REQUIRE(ends.server.write("one two three"));
  CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::drains));
  CHECK(!ends.client.connection.is_plain());
  CHECK(ends.client.connection.has_input(ends.client.tcp));
  CHECK(ends.client.connection.readable_size(ends.client.tcp) == 13);
  CHECK(ends.client.read_text(4, true) == "one ");
  CHECK(ends.client.read_text(4) == "one ");
  SUBCASE("in short messages") {
    std::array<char, 3> word{};
    CHECK(ends.client.connection.read_short(word.data(), word.size()) == 0);
    CHECK(ends.client.read_text(4) == "two ");
    CHECK(ends.client.connection.read_short(word.data(), word.size()) == 0);
    CHECK(ends.server.read_text() == "(wait)");
    CHECK(take_raw(ends.client) == "three");
  }
  SUBCASE("to its end") {
    CHECK(ends.client.read_text() == "two three");
    CHECK(ends.client.read_text() == "(wait)");
    CHECK(ends.client.connection.is_plain());
    CHECK(ends.server.write(" four").value() == 5);
    CHECK(take_raw(ends.client) == " four");
  }
  SUBCASE("and the peer sends what is left") {
    CHECK(ends.server.read_text() == "(wait)");
    CHECK(ends.client.read_text(5) == "two t");
    CHECK(ends.client.connection.is_plain());
    CHECK(take_raw(ends.client) == "hree");
  }
  SUBCASE("to the end of a peer that was killed") {
    ends.server.vanish();
    CHECK(ends.client.read_text() == "two three");
    CHECK(ends.client.read_text() == "(end)");
  }
  SUBCASE("and closes with bytes unread, which others may want") {
    CHECK(ends.client.connection.close(ends.client.tcp) == smcd::connection::close_way::orderly);
    CHECK(ends.server.read_text() == "(wait)");
    CHECK(take_raw(ends.client) == "two three");
  }
  SUBCASE("and leaves again") {
    CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::drains));
    CHECK(ends.client.read_text() == "two three");
    REQUIRE(ends.server.write("more"));
    CHECK(take_raw(ends.client) == "more");
  }
}

TEST_CASE("return: what stands on TCP before the ring may be read by somebody else") {
  two_ends ends;
  REQUIRE(ends.establish());
  // A full ring, so TCP; an empty one, so the ring again.
  const std::size_t on_tcp = 4000;
  std::size_t in_ring = 0;
  for (;;) {
    const auto sent = ends.server.write(std::string(on_tcp, 'r'));
    if (ends.server.connection.sends_on() == lane::tcp) break;
    if (sent) in_ring += *sent;
  }
  for (std::size_t left = in_ring; left > 0;) left -= ends.client.read_text(left).size();
  REQUIRE(ends.server.write("ring"));
  REQUIRE(ends.server.connection.sends_on() == lane::dmb);

  CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::drains));
  CHECK(take_raw(ends.client) == std::string(on_tcp, 'r'));
  SUBCASE("then the ring is the next") {
    CHECK(ends.client.connection.has_input(ends.client.tcp));
    CHECK(ends.client.read_text() == "ring");
    CHECK(ends.client.read_text() == "(wait)");
  }
  SUBCASE("then what the peer sends again") {
    CHECK(ends.server.write(", and TCP").value() == 9);
    CHECK(ends.client.read_text() == "ring, and TCP");
  }
}

TEST_CASE("return: the peer's close brings what is unread") {
  two_ends ends;
  REQUIRE(ends.establish());
  REQUIRE(ends.server.write("last words"));
  CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::is_over));
  CHECK(ends.server.close() == smcd::connection::close_way::orderly);
  CHECK(take_raw(ends.client) == "last words");
}

TEST_CASE("return: the peer ends its direction after what is unread") {
  two_ends ends;
  REQUIRE(ends.establish());
  REQUIRE(ends.server.write("last words"));
  CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::drains));
  ends.server.shutdown_write();
  SUBCASE("for a stranger") { CHECK(take_raw(ends.client) == "last words"); }
  SUBCASE("for the end that left") {
    CHECK(ends.client.read_text() == "last words");
    CHECK(ends.client.read_text() == "(end)");
  }
}

TEST_CASE("return: who reads no more is sent nothing again") {
  two_ends ends;
  REQUIRE(ends.establish());
  REQUIRE(ends.server.write("unread"));
  CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::drains));
  ends.client.shutdown_both();
  CHECK(ends.server.write("more").value() == 4);
  CHECK(ends.client.read_text() == "unread");
}

TEST_CASE("return: bytes that TCP could not give in their order are not given at all") {
  two_ends ends;
  REQUIRE(ends.establish());
  SUBCASE("behind them the peer went to TCP already") {
    REQUIRE(ends.server.write("ring"));
    ends.server.connection.stay_on_tcp(smcd::decline_code::option_unsupported);
    REQUIRE(ends.server.write("tcp"));
    CHECK(!ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::is_over));
    CHECK(!ends.client.connection.is_plain());
    CHECK(ends.client.read_text(4) == "ring");
    CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::is_over));
    CHECK(take_raw(ends.client) == "tcp");
  }
  SUBCASE("the peer ended its direction") {
    REQUIRE(ends.server.write("ring"));
    ends.server.shutdown_write();
    CHECK(!ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::is_over));
    CHECK(ends.client.read_text() == "ring");
    CHECK(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::is_over));
  }
  SUBCASE("the peer left before") {
    REQUIRE(ends.server.write("ring"));
    REQUIRE(ends.client.write("unread"));
    CHECK(ends.server.connection.give_to_kernel(ends.server.tcp, after_leaving::is_over));
    CHECK(!ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::is_over));
  }
}

TEST_CASE("return: bytes wait for room on the TCP lane, and nothing overtakes them") {
  ends_options how;
  how.rules.capacity = 1000;
  two_ends ends({.buffer_size = 16 * 1024}, how);
  REQUIRE(ends.establish());
  conversation talk(ends);
  talk.write(false, 5000);
  REQUIRE(talk.leave(true));
  CHECK(ends.server.read_text() == "(wait)");
  CHECK(ends.server.connection.is_returning());
  CHECK(!ends.server.connection.has_room(ends.server.tcp, ends.clock().now()));
  CHECK(!ends.server.connection.input_hint());
  talk.write(false, 10);
  for (int i = 0; i < 6; ++i) {
    CHECK(talk.read(false, 100'000) == (i < 5 ? 1000 : 0));
    static_cast<void>(ends.server.connection.has_input(ends.server.tcp));
  }
  CHECK(!ends.server.connection.is_returning());
  talk.write(false, 10);
  talk.finish();
}

TEST_CASE("return: a peer that says it read more, or less than it can, has its connection ended") {
  two_ends ends;
  REQUIRE(ends.establish());
  REQUIRE(ends.server.write("bytes"));
  const auto say = [&](std::uint64_t left_at) {
    ends.client.side().left_at = left_at << 1;
    ends.client.side().flags |= dibs::flag_left;
  };
  SUBCASE("more than was sent") { say(1000); }
  SUBCASE("less than the ring can hold") {
    for (int i = 0; i < 20; ++i) {
      REQUIRE(ends.server.write(std::string(4000, 'x')));
      static_cast<void>(ends.client.read_text());
      static_cast<void>(ends.client.read_text());
    }
    say(10);
  }
  CHECK(ends.server.read_text() ==
        "(" + smcd::make_error_code(smcd::errc::protocol_violation).message() + ")");
  CHECK(!ends.server.write("more"));
}

TEST_CASE("return: at any step of the handshake, no CLC byte is left for a stranger") {
  for (int steps = 0; steps < 40; ++steps) {
    for (const bool is_client : {true, false}) {
      CAPTURE(steps);
      CAPTURE(is_client);
      two_ends ends;
      conversation talk(ends);
      support::random random(static_cast<std::uint64_t>(steps));
      for (int i = 0; i < steps; ++i) {
        const bool is_up = i % 2 == 0;
        if (i % 3 == 0) talk.write(is_up, 1 + random.below(20));
        if (i % 3 != 0) talk.read(!is_up, 1 + random.below(20));
      }
      if (talk.leave(is_client)) talk.finish();
      // It may be refused while a message stands among bytes that were not read.
      talk.read(true, 100'000);
      talk.read(false, 100'000);
      if (talk.leave(is_client)) talk.finish();
    }
  }
}

TEST_CASE("return: random conversations lose nothing when one end leaves") {
  int done = 0;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    CAPTURE(seed);
    support::random random(seed);
    ends_options how;
    how.rules.capacity = random.one_in(3) ? 3000 : 1'000'000;
    two_ends ends({.buffer_size = 16 * 1024}, how);
    REQUIRE(ends.establish());
    conversation talk(ends);
    const auto turns = [&](std::size_t n) {
      for (std::size_t i = 0; i < n; ++i) {
        const bool is_up = random.one_in(2);
        const bool by_stranger = random.one_in(2);
        random.one_in(2) ? talk.write(is_up, 1 + random.up_to(8000), by_stranger)
                         : static_cast<void>(talk.read(is_up, 1 + random.up_to(8000), by_stranger));
      }
    };
    turns(random.below(60));
    const bool is_client = random.one_in(2);
    if (!talk.leave(is_client, random.one_in(2) ? after_leaving::drains : after_leaving::is_over)) {
      continue;
    }
    ++done;
    turns(random.below(60));
    talk.finish();
  }
  CHECK(done > 100);
}

// ---- another program in the leaver's place -------------------------------------

namespace {

// The connection as a new program finds it, which was given the socket alone.
void resume(end_point& made, end_point& before, two_ends& ends) {
  made.role = before.role;
  made.meeting = before.meeting;
  auto& stack = before.is_client() ? ends.stacks().of_client() : ends.stacks().of_server();
  const dibs::inet_address remote =
      (before.is_client() ? ends.server : ends.client).tcp.identity.local;
  made.connection.open(stack, before.role, remote, true, false);
  smcd::tcp_count moved;
  REQUIRE(before.tcp.counters(moved.written, moved.read));
  made.connection.resume(moved);
}

// Until both send on DMBs, or no more can come of it.
bool meet_again(end_point& one, end_point& other) {
  for (int i = 0; i < 200; ++i) {
    for (end_point* end : {&one, &other}) {
      end->connection.advance(end->tcp);
      static_cast<void>(end->connection.has_input(end->tcp));
    }
    if (one.connection.sends_on() == lane::dmb && other.connection.sends_on() == lane::dmb) {
      return true;
    }
  }
  return false;
}

}  // namespace

TEST_CASE("return: a new program that was given the socket meets the peer again") {
  for (const bool is_client : {true, false}) {
    CAPTURE(is_client);
    two_ends ends;
    REQUIRE(ends.establish());
    end_point& leaver = is_client ? ends.client : ends.server;
    end_point& peer = is_client ? ends.server : ends.client;
    CHECK(leaver.connection.may_be_resumed());
    REQUIRE(peer.write("unread, "));
    REQUIRE(leaver.write("in the ring, "));
    REQUIRE(leaver.connection.give_to_kernel(leaver.tcp, after_leaving::drains));
    CHECK(!leaver.connection.may_be_resumed());
    const std::int64_t sent_besides = peer.connection.sent_besides();

    end_point fresh(leaver.tcp, ends.clock());
    resume(fresh, leaver, ends);
    REQUIRE(fresh.write("on TCP, "));
    CHECK(peer.read_text() == "in the ring, ");
    CHECK(peer.read_text() == "on TCP, ");
    REQUIRE(peer.write("and sent, "));
    CHECK(fresh.read_text() == "unread, and sent, ");
    REQUIRE(meet_again(fresh, peer));
    REQUIRE(peer.write("in a ring again"));
    CHECK(fresh.read_text() == "in a ring again");
    REQUIRE(fresh.write("here too"));
    CHECK(peer.read_text() == "here too");
    // The bytes that the kernel's count lacks: a few in rings, less two handshakes.
    const std::int64_t clc = is_client ? 78 : 224 + 78;
    CHECK(peer.connection.sent_besides() == sent_besides - 8 + 15 - clc);
  }
}

TEST_CASE("return: nobody comes back to a connection that is not whole") {
  two_ends ends;
  REQUIRE(ends.establish());
  SUBCASE("shared by processes once") {
    ends.server.connection.share();
    ends.server.connection.unshare();
  }
  SUBCASE("half closed") { ends.server.shutdown_write(); }
  SUBCASE("used past us") {
    REQUIRE(ends.client.write("!"));
    CHECK(ends.server.tcp.hidden_send(std::as_bytes(std::span("past", 4))) == 4);
  }
  SUBCASE("asked to stay on TCP") {
    ends.server.connection.stay_on_tcp(smcd::decline_code::option_unsupported);
  }
  REQUIRE(ends.client.connection.give_to_kernel(ends.client.tcp, after_leaving::drains));
  static_cast<void>(ends.server.read_text());
  static_cast<void>(ends.server.read_text());
  CHECK(ends.server.connection.is_plain());
}

TEST_CASE("return: random conversations go on with programs that take each other's place") {
  int done = 0;
  int met = 0;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    CAPTURE(seed);
    support::random random(seed);
    ends_options how;
    how.rules.capacity = random.one_in(3) ? 3000 : 1'000'000;
    two_ends ends({.buffer_size = 16 * 1024}, how);
    REQUIRE(ends.establish());
    std::vector<std::unique_ptr<end_point>> lives;
    end_point* at[] = {&ends.client, &ends.server};
    std::uint64_t written[2]{};
    std::uint64_t got[2]{};
    const auto write = [&](std::size_t from, std::size_t size) {
      std::vector<std::byte> bytes(size);
      for (std::size_t i = 0; i < size; ++i) bytes[i] = byte_at(written[from] + i, from == 0);
      written[from] += support::value_or(at[from]->write(bytes), std::size_t{0});
    };
    const auto read = [&](std::size_t to, std::size_t size) {
      std::vector<std::byte> bytes(size);
      const std::size_t n = support::value_or(at[to]->read(bytes), std::size_t{0});
      for (std::size_t i = 0; i < n; ++i) REQUIRE(bytes[i] == byte_at(got[to] + i, to == 1));
      got[to] += n;
      return n;
    };
    for (int life = 0; life < 6; ++life) {
      for (std::size_t i = random.below(80); i > 0; --i) {
        const std::size_t who = random.below(2);
        random.one_in(2) ? write(who, 1 + random.up_to(3000))
                         : static_cast<void>(read(who, 1 + random.up_to(3000)));
      }
      const std::size_t who = random.below(2);
      if (!at[who]->connection.may_be_resumed()) continue;
      const bool has_met = life > 0 && at[who]->connection.is_established();
      if (!at[who]->connection.give_to_kernel(at[who]->tcp, after_leaving::drains)) break;
      lives.push_back(std::make_unique<end_point>(at[who]->tcp, ends.clock()));
      resume(*lives.back(), *at[who], ends);
      if (has_met) ++met;
      at[who] = lives.back().get();
      ++done;
    }
    for (int idle = 0; idle < 20; ++idle) {
      if (read(0, 100'000) + read(1, 100'000) > 0) idle = 0;
    }
    CHECK(got[0] == written[1]);
    CHECK(got[1] == written[0]);
  }
  CHECK(done > 100);
  CHECK(met > 30);
}
