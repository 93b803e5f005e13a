// SPDX-License-Identifier: Apache-2.0
#include <smcd/link_group.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

using dibs::gid;
using smcd::link_groups;

namespace {

gid gid_of(std::uint32_t value) {
  gid id;
  std::memcpy(id.bytes.data(), &value, sizeof value);
  id.bytes[15] = 1;
  return id;
}

}  // namespace

TEST_CASE("link_group: the first connection of a pair makes the group") {
  link_groups groups;
  const auto first = groups.find_or_add(gid_of(1));
  CHECK(first.is_new);
  CHECK(first.link_id == 0x100);
  CHECK(first.peer == gid_of(1));
  const auto again = groups.find_or_add(gid_of(1));
  CHECK(!again.is_new);
  CHECK(again.link_id == first.link_id);
  const auto other = groups.find_or_add(gid_of(2));
  CHECK(other.is_new);
  CHECK(other.link_id == 0x200);
}

TEST_CASE("link_group: a client takes the number that the server gave") {
  link_groups groups;
  groups.adopt(gid_of(1), 0x700);
  auto known = groups.find_or_add(gid_of(1));
  CHECK(!known.is_new);
  CHECK(known.link_id == 0x700);
  groups.adopt(gid_of(1), 0x800);
  known = groups.find_or_add(gid_of(1));
  CHECK(known.link_id == 0x800);
}

TEST_CASE("link_group: the oldest makes room, and becomes new again") {
  const auto groups = std::make_unique<link_groups>();
  for (std::uint32_t i = 0; i < 257; ++i) CHECK(groups->find_or_add(gid_of(i)).is_new);
  CHECK(!groups->find_or_add(gid_of(256)).is_new);
  CHECK(!groups->find_or_add(gid_of(1)).is_new);
  CHECK(groups->find_or_add(gid_of(0)).is_new);
}

TEST_CASE("link_group: threads that meet one peer make one group") {
  const auto groups = std::make_unique<link_groups>();
  std::atomic<int> made{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (std::uint32_t peer = 0; peer < 200; ++peer) {
        if (groups->find_or_add(gid_of(peer)).is_new) ++made;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(made == 200);
}
