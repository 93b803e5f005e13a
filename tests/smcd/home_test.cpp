// SPDX-License-Identifier: Apache-2.0
#include <smcd/home.hpp>

#include <support/child_process.hpp>
#include <support/scratch_fabric.hpp>
#include <support/tiny_tmpfs.hpp>

#include <doctest/doctest.h>

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

using dibs::gid;
using smcd::end_state;
using smcd::home;
using smcd::home_reader;
using support::scratch_fabric;

namespace {

gid gid_of(std::uint8_t value) {
  gid id;
  id.bytes.fill(value);
  return id;
}

std::vector<std::uint64_t> cookies_in(const home_reader& reader) {
  std::vector<std::uint64_t> found;
  reader.for_each_end([&](const end_state& end) { found.push_back(end.socket_cookie); });
  return found;
}

struct own_home {
  own_home() { REQUIRE(!home::create(home, in, gid_of(1), dibs::loopback_fabric)); }
  scratch_fabric scratch;
  dibs::fabric in = scratch.open();
  smcd::home home;
};

}  // namespace

TEST_CASE("home: a reader sees who it is and which ends are in use") {
  own_home own;
  const auto reader = home_reader::open(own.in, gid_of(1));
  REQUIRE(reader.has_value());
  CHECK(reader->head().device == gid_of(1));
  CHECK(reader->head().chid == dibs::loopback_fabric);
  CHECK(reader->head().pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(reader->head().uid == ::geteuid());
  CHECK(reader->head().command[0] != '\0');
  CHECK(cookies_in(*reader).empty());

  end_state* one = own.home.claim();
  end_state* two = own.home.claim();
  REQUIRE(one != nullptr);
  REQUIRE(two != nullptr);
  one->socket_cookie = 11;
  two->socket_cookie = 22;
  CHECK(own.home.index_of(one) == 0);
  CHECK(own.home.index_of(two) == 1);
  CHECK(cookies_in(*reader) == std::vector<std::uint64_t>{11, 22});
  own.home.release(one);
  CHECK(cookies_in(*reader) == std::vector<std::uint64_t>{22});
}

TEST_CASE("home: a slot that is used again starts from zero, the lowest first") {
  own_home own;
  std::vector<end_state*> ends;
  for (int i = 0; i < 10; ++i) ends.push_back(own.home.claim());
  std::memset(static_cast<void*>(&ends[3]->in_use + 1), 0xAA, sizeof(end_state) - 8);
  own.home.release(ends[7]);
  own.home.release(ends[3]);
  end_state* again = own.home.claim();
  CHECK(again == ends[3]);
  const auto* bytes = reinterpret_cast<const unsigned char*>(again);
  bool is_zero = true;
  for (std::size_t i = sizeof again->in_use; i < sizeof(end_state); ++i) is_zero &= bytes[i] == 0;
  CHECK(is_zero);
  CHECK(again->stage.load() == smcd::end_stage::plain);
  CHECK(own.home.claim() == ends[7]);
  CHECK(own.home.index_of(own.home.claim()) == 10);
}

TEST_CASE("home: there is an end to slots") {
  own_home own;
  std::set<end_state*> ends;
  for (std::uint32_t i = 0; i < home::max_ends; ++i) {
    end_state* end = own.home.claim();
    REQUIRE(end != nullptr);
    ends.insert(end);
  }
  CHECK(ends.size() == home::max_ends);
  CHECK(own.home.claim() == nullptr);
  own.home.release(*ends.begin());
  CHECK(own.home.claim() == *ends.begin());
}

TEST_CASE("home: threads never get the same slot") {
  own_home own;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (std::uint64_t i = 1; i <= 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 3000; ++round) {
        end_state* end = own.home.claim();
        if (end == nullptr || end->socket_cookie != 0) {
          ++wrong;
          continue;
        }
        end->socket_cookie = i;
        if (end->socket_cookie != i) ++wrong;
        own.home.release(end);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("home: a file that is none is refused, and a hostile one is only looked at") {
  own_home own;
  CHECK(home_reader::open(own.in, gid_of(2)).error() == dibs::system_error(ENOENT));
  std::ofstream(own.in.home_path(gid_of(2)).data()) << "too short";
  CHECK(home_reader::open(own.in, gid_of(2)).error() == dibs::errc::fabric_unusable);

  REQUIRE(own.home.claim() != nullptr);
  const auto reader = home_reader::open(own.in, gid_of(1));
  REQUIRE(reader.has_value());
  // More slots than there are.
  const dibs::unique_fd file(::open(own.in.home_path(gid_of(1)).data(), O_RDWR | O_CLOEXEC));
  const auto memory = dibs::mapping::map(file.get(), dibs::page_size);
  REQUIRE(memory.has_value());
  memory->at<smcd::home_header>(0)->ends.store(0xFFFFFFFF);
  CHECK(cookies_in(*reader).size() == 1);
  memory->at<smcd::home_header>(0)->magic.store(7);
  CHECK(home_reader::open(own.in, gid_of(1)).error() == dibs::errc::fabric_unusable);
}

TEST_CASE("home: what a killed process left can be read") {
  const scratch_fabric scratch;
  const dibs::fabric in = scratch.open();
  support::meeting_point meet;
  support::child_process child([&] {
    home made;
    if (home::create(made, in, gid_of(9), dibs::loopback_fabric)) return 1;
    made.claim()->socket_cookie = 99;
    meet.tell_parent();
    ::pause();
    return 0;
  });
  meet.await_child();
  child.kill();
  CHECK(!in.is_alive(gid_of(9)));
  const auto reader = home_reader::open(in, gid_of(9));
  REQUIRE(reader.has_value());
  CHECK(cookies_in(*reader) == std::vector<std::uint64_t>{99});
}

TEST_CASE("home: a full tmpfs means no slot, and no SIGBUS") {
  const auto status = support::in_tiny_tmpfs(64 * 1024, [](const std::filesystem::path& at) {
    const scratch_fabric scratch(at);
    const dibs::fabric in = scratch.open();
    home made;
    if (home::create(made, in, gid_of(1), dibs::loopback_fabric)) return 1;
    int count = 0;
    while (count < 1000 && made.claim() != nullptr) ++count;
    return count > 4 && count < 64 ? 0 : 2;
  });
  if (!status) {
    MESSAGE("skipped: no permission to mount");
    return;
  }
  CHECK(*status == 0);
}
