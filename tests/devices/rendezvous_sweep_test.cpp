// SPDX-License-Identifier: Apache-2.0
// Sweeping what a device left that was killed, or that leaves while it makes
// something.
#include <devices/rendezvous.hpp>

#include <support/child_process.hpp>
#include <support/random.hpp>
#include <support/sanitizers.hpp>
#include <support/scratch_fabric.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <optional>
#include <vector>

using dibs::connection_key;
using dibs::gid;
using dibs::record_ref;
using dibs::rendezvous;
using dibs::v4_address;
using support::scratch_fabric;

namespace {

gid gid_of(std::uint8_t value) {
  gid id;
  id.bytes.fill(value);
  return id;
}

const gid client = gid_of(0xC1);
const gid server = gid_of(0x5E);
const gid dead = gid_of(0xDD);

rendezvous open_in(const scratch_fabric& scratch) {
  auto opened = rendezvous::open(scratch.open());
  REQUIRE(opened.has_value());
  return std::move(*opened);
}

dibs::device_number enter(rendezvous& at, const gid& id) {
  const auto number = at.enter(id);
  REQUIRE(number.has_value());
  return *number;
}

connection_key key_of(std::uint16_t port) {
  return {1, v4_address(0x7F000001, port), v4_address(0x7F000001, 80)};
}

dibs::record_state stage_of(record_ref ref) {
  return static_cast<dibs::record_state>(ref.at->state.load() & dibs::record_state_mask);
}

// The state word of a slot that somebody is at.
std::uint64_t by(std::uint32_t who, std::uint32_t state) {
  return std::uint64_t{who} << 32 | state;
}

// A record that its maker was filling when it was killed.
record_ref half_made(rendezvous& at, const connection_key& key, dibs::device_number by_whom) {
  const record_ref ref = at.publish(key, dead, 0, 0);
  REQUIRE(ref.at != nullptr);
  ref.at->client.device = gid_of(0x99);  // of an earlier use
  ref.at->state = by(by_whom.word(), ref.generation << 8 | dibs::record_filling);
  return ref;
}

record_ref half_joined(rendezvous& at, const connection_key& key, dibs::device_number by_whom) {
  const record_ref ref = at.publish(key, client, 11, 3);
  REQUIRE(ref.at != nullptr);
  ref.at->server.device = dead;
  ref.at->state = by(by_whom.word(), ref.generation << 8 | dibs::record_joining);
  return ref;
}

}  // namespace

TEST_CASE("rendezvous: a dead device leaves with its listeners and its ends of records") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  support::meeting_point meet;
  const record_ref mine = at.publish(key_of(3), client, 0, 0);
  const record_ref others = at.publish(key_of(4), client, 0, 0);
  auto* listener = at.publish_listener(1, v4_address(0, 91), server);
  support::child_process child([&] {
    auto theirs = rendezvous::open(scratch.open());
    if (!theirs || !theirs->enter(dead)) return 1;
    if (theirs->publish_listener(1, v4_address(0, 90), dead) == nullptr) return 2;
    static_cast<void>(theirs->publish(key_of(1), dead, 0, 0));
    static_cast<void>(theirs->publish(key_of(2), dead, 0, 0));
    if (!theirs->join(theirs->find(key_of(3)), dead, 0, 0)) return 3;
    meet.tell_parent();
    ::pause();
    return 0;
  });
  meet.await_child();
  const record_ref theirs = at.find(key_of(2));
  REQUIRE(at.join(theirs, server, 0, 0));
  child.kill();

  at.leave(dead);
  CHECK(at.find(key_of(1)).at == nullptr);
  CHECK(at.find_listener(1, v4_address(0x7F000001, 90)) == nullptr);
  CHECK(at.find_listener(1, v4_address(0x7F000001, 91)) == listener);
  CHECK(at.find(key_of(4)).at == others.at);
  // Ends of the living stay until they let go.
  REQUIRE(mine.is_joined());
  CHECK((mine.at->state.load() & dibs::server_gone) != 0);
  REQUIRE(theirs.is_joined());
  CHECK((theirs.at->state.load() & dibs::client_gone) != 0);
  at.release(mine, true);
  at.release(theirs, false);
  CHECK(!mine.is_current());
  CHECK(!theirs.is_current());
}

TEST_CASE("rendezvous: a record whose maker was killed in the midst is swept and used again") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const auto killed = enter(at, dead);
  const auto living = enter(at, server);
  const record_ref theirs = half_made(at, key_of(1), killed);
  const record_ref others = half_made(at, key_of(2), living);
  at.leave(dead);
  CHECK(!theirs.is_current());
  CHECK(stage_of(theirs) == dibs::record_free);
  const record_ref next = at.publish(key_of(1), client, 0, 0);
  CHECK(next.at == theirs.at);
  CHECK(next.generation == theirs.generation + 1);
  // The living one still fills its own, and so does the one that came now.
  CHECK(others.is_current());
  CHECK(stage_of(others) == dibs::record_filling);
  at.leave(dead);
  CHECK(at.find(key_of(1)).at == next.at);
  CHECK(stage_of(others) == dibs::record_filling);
}

TEST_CASE("rendezvous: a record whose server was killed while it joined is its client's again") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const auto killed = enter(at, dead);
  const record_ref mine = half_joined(at, key_of(1), killed);
  SUBCASE("the client lives, and another end of the connection may join") {
    at.leave(dead);
    CHECK(mine.is_current());
    const record_ref found = at.find(key_of(1));
    REQUIRE(found.at == mine.at);
    CHECK(at.join(found, server, 22, 5));
    CHECK(mine.is_joined());
    CHECK(mine.at->server.device == server);
    at.release(mine, false);
  }
  SUBCASE("the client lives, and releases it as one that nobody joined") { at.leave(dead); }
  SUBCASE("the client went before") {
    at.release(mine, true);
    CHECK(mine.is_current());
    at.leave(dead);
    CHECK(!mine.is_current());
  }
  SUBCASE("the client is swept before") {
    at.leave(client);
    CHECK(mine.is_current());
    at.leave(dead);
    CHECK(!mine.is_current());
  }
  at.release(mine, true);
  CHECK(!mine.is_current());
  CHECK(stage_of(mine) == dibs::record_free);
  CHECK(at.publish(key_of(1), client, 0, 0).at == mine.at);
}

TEST_CASE("rendezvous: a device that was killed as both ends of a record leaves nothing of it") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const auto killed = enter(at, dead);
  const record_ref theirs = half_joined(at, key_of(1), killed);
  theirs.at->client.device = dead;
  at.leave(dead);
  CHECK(!theirs.is_current());
  CHECK(at.taken_slots() == 0);
}

TEST_CASE("rendezvous: a record that a living server is joining is not taken from it") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  static_cast<void>(enter(at, dead));
  const auto living = enter(at, server);
  const record_ref mine = half_joined(at, key_of(1), living);
  const std::uint64_t before = mine.at->state;
  at.leave(dead);
  CHECK(mine.at->state == before);
}

TEST_CASE("rendezvous: a listener whose maker was killed in the midst is swept and used again") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const auto killed = enter(at, dead);
  const auto living = enter(at, server);
  const dibs::inet_address address = v4_address(0x7F000001, 80);
  auto* theirs = at.publish_listener(1, address, gid_of(0x99));
  auto* others = at.publish_listener(1, address, gid_of(0x99));
  REQUIRE(theirs != nullptr);
  REQUIRE(others != nullptr);
  theirs->state = by(killed.word(), 1 << 2 | dibs::slot_filling);
  others->state = by(living.word(), 1 << 2 | dibs::slot_filling);
  at.leave(dead);
  CHECK(theirs->state == 1 << 2);
  CHECK(others->state == by(living.word(), 1 << 2 | dibs::slot_filling));
  CHECK(at.publish_listener(1, address, server) == theirs);
  at.leave(dead);
  CHECK(at.find_listener(1, address) == theirs);
}

TEST_CASE("rendezvous: a device that was killed while it entered is swept, and no other") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const dibs::unique_fd file(::open(scratch.open().rendezvous_path().data(), O_RDWR));
  const auto memory = dibs::mapping::map(
      file.get(), rendezvous::device_count * sizeof(dibs::device_entry), dibs::page_size);
  REQUIRE(memory.has_value());
  const auto stop_entering = [&](const gid& id) -> dibs::device_entry& {
    auto& entry = memory->at<dibs::device_entry>(0)[enter(at, id).index];
    entry.state = by(dibs::first_word(id), 1 << 2 | dibs::slot_filling);
    entry.id = gid_of(0x99);  // of an earlier use
    return entry;
  };
  const auto& others = stop_entering(server);
  const auto& theirs = stop_entering(dead);
  at.leave(dead);
  CHECK((others.state & dibs::slot_mask) == dibs::slot_filling);
  CHECK((theirs.state & dibs::slot_mask) == dibs::slot_free);
  const auto next = enter(at, client);
  CHECK(next.index == 1);
  CHECK(next.generation == 2);
  at.leave(dead);
  CHECK(at.device_of(next) == client);
}

TEST_CASE("rendezvous: who has stopped makes nothing any more") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  rendezvous other = open_in(scratch);
  static_cast<void>(enter(at, server));
  const record_ref theirs = other.publish(key_of(1), client, 0, 0);
  CHECK(at.stop());
  CHECK(at.publish(key_of(2), server, 0, 0).at == nullptr);
  CHECK(at.publish_listener(1, v4_address(0, 80), server) == nullptr);
  CHECK(!at.join(theirs, server, 0, 0));
  CHECK(other.find(key_of(1)).at == theirs.at);
  at.leave(server);
  CHECK(at.taken_slots() == 1);
}

namespace {

rendezvous* stops = nullptr;
void* guarded_page = nullptr;
bool could_stop = true;

void stop_in_the_midst(int) {
  could_stop = stops->stop();
  ::mprotect(guarded_page, dibs::page_size, PROT_READ | PROT_WRITE);
}

}  // namespace

TEST_CASE("rendezvous: who is in the midst of making something cannot stop" *
          doctest::skip(support::is_tsan)) {
  const scratch_fabric scratch;
  support::child_process child([&] {
    auto at = rendezvous::open(scratch.open());
    if (!at) return 1;
    const record_ref ref = at->publish(key_of(1), client, 0, 0);
    at->release(ref, true);
    stops = &*at;
    guarded_page = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(ref.at) &
                                           ~std::uintptr_t{dibs::page_size - 1});
    struct sigaction action {};
    action.sa_handler = stop_in_the_midst;
    ::sigaction(SIGSEGV, &action, nullptr);
    ::mprotect(guarded_page, dibs::page_size, PROT_READ);
    if (at->publish(key_of(1), client, 0, 0).at != ref.at) return 2;
    if (could_stop) return 3;
    if (at->publish(key_of(2), client, 0, 0).at != nullptr) return 4;
    return at->stop() ? 0 : 5;
  });
  CHECK(child.wait() == 0);
}

namespace {

// Keys that all begin their search at one place.
std::vector<connection_key> neighbours(rendezvous& at, std::size_t count) {
  std::vector<connection_key> found;
  const dibs::record* place = nullptr;
  for (std::uint32_t i = 0; found.size() < count; ++i) {
    const connection_key key{1, v4_address(0x0A000000 + i, 1), v4_address(0x7F000001, 80)};
    const record_ref ref = at.publish(key, client, 0, 0);
    if (place == nullptr) place = ref.at;
    if (ref.at == place) found.push_back(key);
    at.release(ref, true);
  }
  return found;
}

// Makes and joins records, and makes listeners, until it is killed. Ends when
// somebody else is in what it made.
int make_for_ever(const dibs::fabric& in, const gid& self, const connection_key& key) {
  auto at = rendezvous::open(in);
  if (!at || !at->enter(self)) return 1;
  for (std::uint64_t cookie = 1;; ++cookie) {
    const record_ref ref = at->publish(key, self, cookie, 0);
    if (ref.at == nullptr) return 2;
    if (cookie % 2 == 0 && !at->join(ref, self, cookie, 0)) return 3;
    auto* listener = at->publish_listener(1, key.server, self);
    if (listener == nullptr || listener->device != self) return 4;
    at->withdraw_listener(listener);
    if (!ref.is_current() || ref.at->client.device != self ||
        ref.at->client.socket_cookie != cookie) {
      return 5;
    }
    if (cookie % 2 == 0 && ref.at->server.socket_cookie != cookie) return 6;
    at->release(ref, true);
    at->release(ref, false);
  }
}

}  // namespace

TEST_CASE("rendezvous: processes that are killed at any moment leave nothing and share nothing") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const dibs::fabric in = scratch.open();
  const auto keys = neighbours(at, 3);
  std::vector<std::optional<support::child_process>> makers(keys.size());
  std::vector<gid> ids(keys.size());
  const auto stop = [&](std::size_t one) {
    ::kill(makers[one]->pid(), SIGKILL);
    CHECK(makers[one]->wait() == -SIGKILL);
  };
  support::random random(1);
  for (std::uint8_t round = 0; round < 200; ++round) {
    const std::size_t one = round % keys.size();
    if (makers[one]) {
      stop(one);
      // Two sweep it, and the others go on.
      support::child_process helper([&] {
        auto theirs = rendezvous::open(in);
        if (theirs) theirs->leave(ids[one]);
        return theirs ? 0 : 1;
      });
      at.leave(ids[one]);
      CHECK(helper.wait() == 0);
    }
    ids[one] = gid_of(round + 1);
    makers[one].emplace([&, one] { return make_for_ever(in, ids[one], keys[one]); });
    ::usleep(static_cast<useconds_t>(random.up_to(3000)));
  }
  for (std::size_t one = 0; one < keys.size(); ++one) {
    stop(one);
    at.leave(ids[one]);
  }
  CHECK(at.taken_slots() == 0);
}
