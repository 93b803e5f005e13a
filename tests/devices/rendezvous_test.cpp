// SPDX-License-Identifier: Apache-2.0
#include <devices/rendezvous.hpp>

#include <support/child_process.hpp>
#include <support/scratch_fabric.hpp>
#include <support/tiny_tmpfs.hpp>

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

using dibs::connection_key;
using dibs::gid;
using dibs::inet_address;
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

rendezvous open_in(const scratch_fabric& scratch) {
  auto opened = rendezvous::open(scratch.open());
  REQUIRE(opened.has_value());
  return std::move(*opened);
}

inet_address v6(std::initializer_list<std::uint8_t> last, std::uint16_t port) {
  inet_address made;
  std::copy(last.begin(), last.end(), made.bytes.end() - static_cast<std::ptrdiff_t>(last.size()));
  made.port = port;
  return made;
}

connection_key key_of(std::uint16_t port, std::uint64_t netns = 1) {
  return {netns, v4_address(0x7F000001, port), v4_address(0x7F000001, 80)};
}

const gid client = gid_of(0xC1);
const gid server = gid_of(0x5E);

dibs::record_state stage_of(record_ref ref) {
  return static_cast<dibs::record_state>(ref.at->state.load() & dibs::record_state_mask);
}

}  // namespace

// ---- the file --------------------------------------------------------------

TEST_CASE("rendezvous: two processes see one file") {
  const scratch_fabric scratch;
  rendezvous mine = open_in(scratch);
  support::child_process child([&] {
    auto theirs = rendezvous::open(scratch.open());
    if (!theirs) return 1;
    const record_ref found = theirs->publish(key_of(1), client, 11, 3);
    return found.at != nullptr ? 0 : 2;
  });
  REQUIRE(child.wait() == 0);
  const record_ref found = mine.find(key_of(1));
  REQUIRE(found.at != nullptr);
  CHECK(found.at->client.device == client);
  CHECK(found.at->client.socket_cookie == 11);
  CHECK(found.at->client.home_slot == 3);
  CHECK(found.at->nonce != 0);
}

TEST_CASE("rendezvous: bits that mean nothing do not spoil a record for good") {
  const scratch_fabric scratch;
  rendezvous on = open_in(scratch);
  const record_ref first = on.publish(key_of(1), client, 0, 0);
  REQUIRE(first.at != nullptr);
  on.release(first, true);
  REQUIRE(stage_of(first) == dibs::record_free);
  first.at->state |= 0xC0 | dibs::server_gone;
  const record_ref again = on.publish(key_of(1), client, 0, 0);
  REQUIRE(again.at == first.at);
  CHECK(on.find(key_of(1)).at == again.at);
  CHECK(on.join(again, server, 0, 0));
  CHECK(again.is_joined());
  CHECK((again.at->state & 0xF0) == 0);
}

TEST_CASE("rendezvous: a file of another version or length is refused") {
  const scratch_fabric scratch;
  const dibs::fabric in = scratch.open();
  CHECK(rendezvous::open_read_only(in).error() == dibs::system_error(ENOENT));
  { static_cast<void>(open_in(scratch)); }
  CHECK(rendezvous::open_read_only(in).has_value());
  const auto size = std::filesystem::file_size(in.rendezvous_path().data());

  std::filesystem::resize_file(in.rendezvous_path().data(), size - 4096);
  CHECK(rendezvous::open(in).error() == dibs::errc::fabric_unusable);
  CHECK(rendezvous::open_read_only(in).error() == dibs::errc::fabric_unusable);

  std::filesystem::resize_file(in.rendezvous_path().data(), size);
  {
    std::fstream file(in.rendezvous_path().data(), std::ios::in | std::ios::out | std::ios::binary);
    file.put('X');
  }
  CHECK(rendezvous::open(in).error() == dibs::errc::fabric_unusable);
  CHECK(rendezvous::open_read_only(in).error() == dibs::errc::fabric_unusable);
}

TEST_CASE("rendezvous: a file whose maker was killed is finished by the next") {
  const scratch_fabric scratch;
  const dibs::fabric in = scratch.open();
  { static_cast<void>(open_in(scratch)); }
  const std::string path = in.rendezvous_path().data();
  const auto size = std::filesystem::file_size(path);
  const auto tables = rendezvous::device_count * sizeof(dibs::device_entry);
  // Made, reserved, of full length: the steps of a maker before the last.
  for (const auto so_far : {std::uintmax_t{0}, dibs::page_size + tables, size}) {
    std::filesystem::resize_file(path, 0);
    std::filesystem::resize_file(path, so_far);
    CHECK(rendezvous::open_read_only(in).error() == dibs::system_error(ENOENT));
    CHECK(rendezvous::open(in).has_value());
    CHECK(rendezvous::open_read_only(in).has_value());
  }
}

TEST_CASE("rendezvous: many processes may make the file at once") {
  for (int round = 0; round < 20; ++round) {
    const scratch_fabric scratch;
    const auto body = [&] { return rendezvous::open(scratch.open()).has_value() ? 0 : 1; };
    support::child_process one(body);
    support::child_process two(body);
    support::child_process three(body);
    CHECK(one.wait() == 0);
    CHECK(two.wait() == 0);
    CHECK(three.wait() == 0);
  }
}

TEST_CASE("rendezvous: a full tmpfs is an error code, and later tables stay empty") {
  const auto status = support::in_tiny_tmpfs(100 * 1024, [](const std::filesystem::path& at) {
    const scratch_fabric scratch(at);
    auto opened = rendezvous::open(scratch.open());
    if (!opened) return 1;
    // Room for the devices and little more.
    std::uint16_t port = 1;
    while (port < 2000 && opened->publish(key_of(port), client, 0, 0).at != nullptr) ++port;
    if (port == 1 || port == 2000) return 2;
    if (opened->find(key_of(port)).at != nullptr) return 3;
    if (opened->find(key_of(1)).at == nullptr) return 4;
    opened->leave(client);
    return opened->find(key_of(1)).at == nullptr ? 0 : 5;
  });
  const auto none = support::in_tiny_tmpfs(16 * 1024, [](const std::filesystem::path& at) {
    const scratch_fabric scratch(at);
    const auto failed = rendezvous::open(scratch.open());
    if (failed) return 1;
    return failed.error() == dibs::errc::fabric_full ? 0 : 2;
  });
  if (!status) {
    MESSAGE("skipped: no permission to mount");
    return;
  }
  CHECK(*status == 0);
  CHECK(none == 0);
}

// ---- devices ---------------------------------------------------------------

TEST_CASE("rendezvous: a device number leads to its gid until the device leaves") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const auto one = at.enter(client);
  const auto two = at.enter(server);
  REQUIRE(one.has_value());
  REQUIRE(two.has_value());
  CHECK(*one != *two);
  CHECK(at.device_of(*one) == client);
  CHECK(at.device_of(*two) == server);
  at.leave(client);
  CHECK(at.device_of(*one).is_none());
  CHECK(at.device_of(*two) == server);

  // The place is used again, by another generation.
  const auto three = at.enter(gid_of(3));
  REQUIRE(three.has_value());
  CHECK(three->index == one->index);
  CHECK(three->generation != one->generation);
  CHECK(at.device_of(*one).is_none());
  CHECK(at.device_of(*three) == gid_of(3));
}

TEST_CASE("rendezvous: numbers that nobody has lead to none") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  REQUIRE(at.enter(client).has_value());
  CHECK(at.device_of({0, 0}).is_none());
  CHECK(at.device_of({0, 2}).is_none());
  CHECK(at.device_of({rendezvous::device_count, 1}).is_none());
  CHECK(at.device_of({0xFFFF, 0xFFFF}).is_none());
}

TEST_CASE("rendezvous: there is room for device_count devices") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  for (std::uint32_t i = 0; i < rendezvous::device_count; ++i) {
    gid id;
    std::memcpy(id.bytes.data(), &i, sizeof i);
    id.bytes[15] = 1;
    REQUIRE(at.enter(id).has_value());
  }
  CHECK(at.enter(server).error() == dibs::errc::fabric_full);
  gid leaves;
  leaves.bytes[15] = 1;
  at.leave(leaves);
  CHECK(at.enter(server).has_value());
}

TEST_CASE("rendezvous: a number that is used again and again never means the one before") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  dibs::device_number last{};
  for (int i = 0; i < 300; ++i) {
    const auto number = at.enter(client);
    REQUIRE(number.has_value());
    CHECK(number->index == 0);
    CHECK(*number != last);
    CHECK(at.device_of(last).is_none());
    last = *number;
    at.leave(client);
  }
}

// ---- listeners -------------------------------------------------------------

TEST_CASE("rendezvous: a listener is found by what connects to it") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const inet_address any4 = v4_address(0, 80);
  const inet_address any6 = v6({}, 80);
  const inet_address local4 = v4_address(0x7F000001, 80);
  const inet_address other4 = v4_address(0xC0000201, 80);
  const inet_address local6 = v6({1}, 80);
  struct {
    const char* name;
    inet_address bound;
    bool takes_local4, takes_other4, takes_local6;
  } const cases[] = {
      {"127.0.0.1", local4, true, false, false},
      {"0.0.0.0", any4, true, true, false},
      {"::1", local6, false, false, true},
      {"::", any6, true, true, true},
  };
  for (const auto& one : cases) {
    INFO(one.name);
    auto* entry = at.publish_listener(1, one.bound, server);
    REQUIRE(entry != nullptr);
    CHECK(entry->device == server);
    CHECK((at.find_listener(1, local4) == entry) == one.takes_local4);
    CHECK((at.find_listener(1, other4) == entry) == one.takes_other4);
    CHECK((at.find_listener(1, local6) == entry) == one.takes_local6);
    // Another port, another network namespace.
    CHECK(at.find_listener(1, v4_address(0x7F000001, 81)) == nullptr);
    CHECK(at.find_listener(2, local4) == nullptr);
    at.withdraw_listener(entry);
    CHECK(at.find_listener(1, local4) == nullptr);
    CHECK(at.find_listener(1, local6) == nullptr);
  }
  at.withdraw_listener(nullptr);
}

TEST_CASE("rendezvous: processes that share a listener are counted") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const inet_address local4 = v4_address(0x7F000001, 80);
  CHECK(at.find_sharers(1, local4).count == 0);
  auto* first = at.publish_listener(1, local4, server);
  const auto alone = at.find_sharers(1, local4);
  CHECK(alone.count == 1);
  CHECK(alone.one == first);
  REQUIRE(at.publish_listener(1, local4, client) != nullptr);
  REQUIRE(at.publish_listener(1, v4_address(0, 80), client) != nullptr);
  REQUIRE(at.publish_listener(2, local4, client) != nullptr);
  CHECK(at.find_sharers(1, local4).count == 2);
  at.withdraw_listener(first);
  CHECK(at.find_sharers(1, local4).count == 1);
}

TEST_CASE("rendezvous: IPv4 mapped into IPv6 meets the same listener") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const inet_address mapped = v6({0xFF, 0xFF, 127, 0, 0, 1}, 80);
  REQUIRE(at.publish_listener(1, v4_address(0x7F000001, 80), server) != nullptr);
  CHECK(at.find_listener(1, mapped) != nullptr);
}

TEST_CASE("rendezvous: a full neighbourhood of listeners gives null, and room comes back") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  std::vector<dibs::listener_entry*> entries;
  // One port in one namespace: all hash to the same place.
  for (std::uint32_t i = 0; i < 100; ++i) {
    auto* entry = at.publish_listener(1, v4_address(0x0A000000 + i, 80), server);
    if (entry == nullptr) break;
    entries.push_back(entry);
  }
  REQUIRE(entries.size() == 8);
  CHECK(at.find_listener(1, v4_address(0x0A000007, 80)) == entries[7]);
  at.withdraw_listener(entries[7]);
  CHECK(at.publish_listener(1, v4_address(0x0A000063, 80), server) == entries[7]);
}

// ---- records ---------------------------------------------------------------

TEST_CASE("rendezvous: a record is published, found, joined, and freed by the second release") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  CHECK(at.find(key_of(1)).at == nullptr);
  const record_ref mine = at.publish(key_of(1), client, 11, 3);
  REQUIRE(mine.at != nullptr);
  CHECK(mine.is_current());
  CHECK(!mine.is_joined());
  CHECK(at.record_at(at.index_of(mine.at)) == mine.at);

  const record_ref found = at.find(key_of(1));
  REQUIRE(found.at == mine.at);
  CHECK(found.generation == mine.generation);
  CHECK(at.join(found, server, 22, 5));
  CHECK(mine.is_joined());
  CHECK(found.at->server.device == server);
  CHECK(found.at->server.socket_cookie == 22);
  CHECK(found.at->server.home_slot == 5);
  // Joined once, found never again.
  CHECK(!at.join(found, server, 22, 5));
  CHECK(at.find(key_of(1)).at == nullptr);

  SUBCASE("the client goes first") {
    at.release(mine, true);
    CHECK((mine.at->state.load() & dibs::client_gone) != 0);
    at.release(mine, true);
    CHECK(mine.is_current());
    at.release(found, false);
  }
  SUBCASE("the server goes first") {
    at.release(found, false);
    CHECK((mine.at->state.load() & dibs::server_gone) != 0);
    CHECK(mine.is_current());
    at.release(mine, true);
  }
  CHECK(!mine.is_current());
  CHECK(!mine.is_joined());
  CHECK(stage_of(mine) == dibs::record_free);
}

TEST_CASE("rendezvous: every part of the key counts") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const connection_key key = key_of(1);
  REQUIRE(at.publish(key, client, 0, 0).at != nullptr);
  connection_key other = key;
  other.netns = 2;
  CHECK(at.find(other).at == nullptr);
  CHECK(at.find({key.netns, key.server, key.client}).at == nullptr);
  other = key;
  other.client.port = 2;
  CHECK(at.find(other).at == nullptr);
  other = key;
  other.server.bytes[15] ^= 1;
  CHECK(at.find(other).at == nullptr);
  CHECK(at.find(key).at != nullptr);
}

TEST_CASE("rendezvous: a withdrawn record cannot be joined") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const record_ref mine = at.publish(key_of(1), client, 0, 0);
  const record_ref found = at.find(key_of(1));
  at.release(mine, true);
  CHECK(!at.join(found, server, 0, 0));
  CHECK(!mine.is_current());
  // Another connection has its place now: the old reference means nothing.
  const record_ref next = at.publish(key_of(1), client, 0, 0);
  REQUIRE(next.at == mine.at);
  CHECK(next.generation != mine.generation);
  CHECK(!at.join(found, server, 0, 0));
  at.release(found, false);
  at.release(mine, true);
  CHECK(next.is_current());
  CHECK(at.find(key_of(1)).at == next.at);
}

TEST_CASE("rendezvous: a client that leaves while the server joins is not joined") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const record_ref mine = at.publish(key_of(1), client, 0, 0);
  // Between the two steps of join().
  mine.at->state.store(mine.generation << 8 | dibs::record_joining);
  at.release(mine, true);
  CHECK(!mine.is_joined());
  CHECK((mine.at->state.load() & dibs::client_gone) != 0);
}

TEST_CASE("rendezvous: more than one record of a key is ambiguous, and nobody joins") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  // As two clients make it that publish in the same moment. Its neighbour has
  // memory if both stand in one page.
  std::uint16_t port = 1;
  record_ref one = at.publish(key_of(port), client, 0, 0);
  while (at.index_of(one.at) % 2 != 0) one = at.publish(key_of(++port), client, 0, 0);
  auto* twin = at.record_at(at.index_of(one.at) + 1);
  REQUIRE(twin != nullptr);
  REQUIRE(twin->state.load() == dibs::record_free);
  twin->netns = one.at->netns;
  twin->client_address = one.at->client_address;
  twin->server_address = one.at->server_address;
  twin->state.store(dibs::record_published);
  CHECK(at.find(key_of(port)).at == nullptr);
  at.release({twin, 0}, true);
  CHECK(at.find(key_of(port)).at == one.at);
}

TEST_CASE("rendezvous: a new record of the same key replaces one that nobody joined") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const record_ref stale = at.publish(key_of(1), client, 1, 0);
  const record_ref fresh = at.publish(key_of(1), gid_of(9), 2, 0);
  REQUIRE(fresh.at != nullptr);
  CHECK(!stale.is_current());
  const record_ref found = at.find(key_of(1));
  CHECK(found.at == fresh.at);
  CHECK(found.at->client.socket_cookie == 2);
}

TEST_CASE("rendezvous: one that is joined stays when its key is published again") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  const record_ref old = at.publish(key_of(1), client, 1, 0);
  REQUIRE(at.join(at.find(key_of(1)), server, 1, 0));
  const record_ref fresh = at.publish(key_of(1), client, 2, 0);
  REQUIRE(fresh.at != nullptr);
  CHECK(fresh.at != old.at);
  CHECK(old.is_joined());
  CHECK(at.find(key_of(1)).at == fresh.at);
}

TEST_CASE("rendezvous: a place that is used again starts from zero") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  record_ref ref = at.publish(key_of(1), client, 0, 0);
  const auto* place = ref.at;
  const std::uint64_t nonce = ref.at->nonce;
  REQUIRE(at.join(ref, server, 0, 0));
  for (dibs::record_side* side : {&ref.at->client, &ref.at->server}) {
    side->token = 99;
    side->marks_published.store(3);
    side->marks_taken.store(2);
    side->flags.store(3);
    for (auto& waiting : side->waiters) waiting.store(7);
  }
  at.release(ref, false);
  at.release(ref, true);
  ref = at.publish(key_of(1), client, 0, 0);
  REQUIRE(ref.at == place);
  CHECK(ref.at->nonce != nonce);
  for (const dibs::record_side* side : {&ref.at->client, &ref.at->server}) {
    CHECK(side->token == 0);
    CHECK(side->marks_published.load() == 0);
    CHECK(side->marks_taken.load() == 0);
    CHECK(side->flags.load() == 0);
    for (const auto& waiting : side->waiters) CHECK(waiting.load() == 0);
  }
}

TEST_CASE("rendezvous: a full neighbourhood gives no record, and room comes back") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  // As many records as fit; the table is a hash table with a bounded search.
  std::vector<record_ref> refs;
  std::size_t refused = 0;
  connection_key first_refused;
  for (std::uint32_t i = 0; i < rendezvous::record_count + 4096; ++i) {
    const connection_key key{
        1, v4_address(0x0A000000 + i / 1000, static_cast<std::uint16_t>(i % 1000)),
        v4_address(0x7F000001, 80)};
    const record_ref ref = at.publish(key, client, 0, 0);
    if (ref.at != nullptr) {
      refs.push_back(ref);
    } else if (refused++ == 0) {
      first_refused = key;
    }
  }
  CHECK(refs.size() > rendezvous::record_count * 3 / 4);
  CHECK(refs.size() <= rendezvous::record_count);
  REQUIRE(refused > 0);
  std::set<const dibs::record*> places;
  for (const record_ref& ref : refs) places.insert(ref.at);
  CHECK(places.size() == refs.size());
  for (const record_ref& ref : refs) at.release(ref, true);
  CHECK(at.publish(first_refused, client, 0, 0).at != nullptr);
}

TEST_CASE("rendezvous: two processes that join one record: exactly one wins") {
  const scratch_fabric scratch;
  rendezvous at = open_in(scratch);
  for (std::uint16_t round = 0; round < 200; ++round) {
    const record_ref mine = at.publish(key_of(round), client, 0, 0);
    REQUIRE(mine.at != nullptr);
    support::child_process other([&] {
      const record_ref found = at.find(key_of(round));
      return found.at != nullptr && at.join(found, gid_of(2), 0, 0) ? 1 : 0;
    });
    const record_ref found = at.find(key_of(round));
    const int here = found.at != nullptr && at.join(found, gid_of(3), 0, 0) ? 1 : 0;
    CHECK(here + other.wait() == 1);
    CHECK(mine.at->server.device == gid_of(here == 1 ? 3 : 2));
    at.release(mine, true);
    at.release(mine, false);
  }
}
