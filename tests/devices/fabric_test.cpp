// SPDX-License-Identifier: Apache-2.0
#include <devices/fabric.hpp>

#include <support/child_process.hpp>
#include <support/scratch_fabric.hpp>
#include <support/tiny_tmpfs.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using dibs::fabric;
using dibs::gid;
using support::scratch_fabric;

namespace {

gid gid_of(std::uint8_t value) {
  gid id;
  id.bytes.fill(value);
  return id;
}

void touch(const char* path) { std::ofstream(path).put('x'); }

std::vector<gid> devices_of(const fabric& in) {
  std::vector<gid> found;
  in.for_each_device([&](const gid& id) { found.push_back(id); });
  std::sort(found.begin(), found.end());
  return found;
}

// A name under /dev/shm that nobody has, for directories made by fabric::open.
struct absent_directory {
  std::string path = "/dev/shm/dibsock-test-" + std::to_string(::getpid()) + "-absent";
  ~absent_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

TEST_CASE("fabric: a missing directory is made, for its owner alone") {
  const absent_directory wanted;
  const auto opened = fabric::open(wanted.path);
  REQUIRE(opened.has_value());
  CHECK(std::string(opened->directory()) == wanted.path);
  struct stat status {};
  REQUIRE(::stat(wanted.path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0700);
  CHECK(fabric::open(wanted.path).has_value());
}

TEST_CASE("fabric: an empty name is the user's own directory in /dev/shm") {
  // A mount namespace of its own keeps the real /dev/shm out of it.
  const auto status = support::in_tiny_tmpfs(1 << 20, [](const std::filesystem::path& at) {
    if (::mount(at.c_str(), "/dev/shm", nullptr, MS_BIND, nullptr) != 0) return 1;
    const std::string own = "/dev/shm/dibs-" + std::to_string(::geteuid());
    const auto made = fabric::open("");
    if (!made || std::string(made->directory()) != own) return 2;
    if (!fabric::open("")) return 3;
    // Others could get in: not ours alone.
    std::filesystem::permissions(own, std::filesystem::perms(0710));
    if (fabric::open("").has_value()) return 4;
    if (fabric::open("").error() != dibs::errc::fabric_unusable) return 5;
    // A directory that was named is as trusted as its permissions make it.
    if (!fabric::open(own)) return 6;
    // A link that somebody else left in the place where everybody may write.
    std::filesystem::remove(own);
    std::filesystem::create_directory(at / "elsewhere");
    std::filesystem::create_directory_symlink("/dev/shm/elsewhere", own);
    if (fabric::open("").has_value()) return 7;
    std::filesystem::remove(own);
    std::ofstream(own).put('x');
    if (fabric::open("").has_value()) return 8;
    if (::geteuid() == 0) {
      std::filesystem::remove(own);
      std::filesystem::create_directory(own);
      std::filesystem::permissions(own, std::filesystem::perms(0700));
      if (!fabric::open("")) return 9;
      if (::chown(own.c_str(), 12345, 12345) == 0 && fabric::open("").has_value()) return 10;
    }
    return 0;
  });
  if (!status) {
    MESSAGE("skipped: no permission to mount");
    return;
  }
  CHECK(*status == 0);
}

TEST_CASE("fabric: what cannot be a fabric is refused with a reason") {
  const scratch_fabric scratch;
  const std::string file = scratch.directory() + "/file";
  touch(file.c_str());
  CHECK(!fabric::open(file).has_value());
  CHECK(fabric::open(file + "/below").error() == dibs::system_error(ENOTDIR));
  CHECK(fabric::open(scratch.directory() + "/missing/below").error() == dibs::system_error(ENOENT));
  CHECK(fabric::open(std::string(500, 'x')).error() == dibs::errc::fabric_unusable);
  // So long that a name in it would not fit any more.
  const std::string longest = scratch.directory() + "/" + std::string(190, 'x');
  CHECK(fabric::open(longest).error() == dibs::errc::fabric_unusable);
}

TEST_CASE("fabric: names of files carry the gids") {
  const scratch_fabric scratch;
  const fabric in = scratch.open();
  const std::string base = scratch.directory() + "/";
  const std::string one(32, '1');
  const std::string two(32, '2');
  CHECK(base + "rendezvous" == in.rendezvous_path().data());
  CHECK(base + one + ".home" == in.home_path(gid_of(0x11)).data());
  CHECK(base + one + ".events" == in.events_path(gid_of(0x11)).data());
  CHECK(base + one + ".bell.1023" == in.bell_path(gid_of(0x11), 1023).data());
  CHECK(base + one + "." + two + ".dmb" == in.dmb_path(gid_of(0x11), gid_of(0x22)).data());
}

TEST_CASE("fabric: a device lives as long as its home is held") {
  const scratch_fabric scratch;
  const fabric in = scratch.open();
  const gid id = gid_of(1);
  CHECK(!in.is_alive(id));
  {
    auto home = in.create_home(id, 3 * dibs::page_size, dibs::page_size);
    REQUIRE(home.has_value());
    CHECK(home->memory.size() == 3 * dibs::page_size);
    CHECK(in.is_alive(id));
    CHECK(in.is_alive(id));
    // The mapping alone is enough.
    home->file.reset();
    CHECK(in.is_alive(id));
    CHECK(!in.create_home(id, dibs::page_size, dibs::page_size).has_value());
    CHECK(in.is_alive(id));
  }
  CHECK(!in.is_alive(id));
  CHECK(devices_of(in) == std::vector<gid>{id});
}

TEST_CASE("fabric: a killed process is a dead device, a forked child keeps it alive") {
  const scratch_fabric scratch;
  const fabric in = scratch.open();
  const gid id = gid_of(2);
  support::meeting_point meet;
  std::optional<support::child_process> child;
  child.emplace([&] {
    auto home = in.create_home(id, dibs::page_size, dibs::page_size);
    const support::child_process grandchild([&] {
      meet.tell_parent();
      meet.await_parent();
      return 0;
    });
    if (!home) return 1;
    ::pause();
    return 0;
  });
  meet.await_child();
  CHECK(in.is_alive(id));
  child->kill();
  // Not by the pid of whoever made it: the grandchild holds it still.
  CHECK(in.is_alive(id));
  meet.tell_child();
  while (in.is_alive(id)) ::sched_yield();
  CHECK(!in.is_alive(id));
}

TEST_CASE("fabric: only homes name devices") {
  const scratch_fabric scratch;
  const fabric in = scratch.open();
  touch(in.rendezvous_path().data());
  touch(in.home_path(gid_of(3)).data());
  touch(in.home_path(gid_of(4)).data());
  touch(in.events_path(gid_of(5)).data());
  touch(in.dmb_path(gid_of(6), gid_of(3)).data());
  const std::string base = scratch.directory() + "/";
  touch((base + std::string(32, 'X') + ".home").c_str());
  touch((base + std::string(32, '0') + ".home").c_str());
  touch((base + std::string(31, 'a') + ".home").c_str());
  touch((base + std::string(33, 'a') + ".home").c_str());
  touch((base + std::string(32, 'a') + ".homes").c_str());
  CHECK(devices_of(in) == std::vector<gid>{gid_of(3), gid_of(4)});
}

TEST_CASE("fabric: removing a device removes all its files and no others") {
  const scratch_fabric scratch;
  const fabric in = scratch.open();
  const gid gone = gid_of(0x0A);
  const gid other = gid_of(0x0B);
  touch(in.rendezvous_path().data());
  for (const gid& id : {gone, other}) {
    touch(in.home_path(id).data());
    touch(in.events_path(id).data());
    for (unsigned queue = 0; queue < 40; ++queue) touch(in.bell_path(id, queue).data());
  }
  for (unsigned i = 1; i < 200; ++i)
    touch(in.dmb_path(gone, gid_of(static_cast<std::uint8_t>(i))).data());
  touch(in.dmb_path(other, gone).data());
  in.remove_device(gone);
  CHECK(scratch.count_files(dibs::to_text(gone).data()) == 1);  // other's, that gone might write
  CHECK(scratch.files().size() == 1 + 42 + 1);
  CHECK(devices_of(in) == std::vector<gid>{other});
  in.remove_device(gone);
  CHECK(scratch.files().size() == 1 + 42 + 1);
}

TEST_CASE("fabric: strays are the files whose device has no home") {
  const scratch_fabric scratch;
  const fabric in = scratch.open();
  touch(in.home_path(gid_of(1)).data());
  touch(in.bell_path(gid_of(1), 0).data());
  touch(in.bell_path(gid_of(2), 0).data());
  touch(in.dmb_path(gid_of(2), gid_of(1)).data());
  touch(in.rendezvous_path().data());
  const std::string other = scratch.directory() + "/a-file-of-somebody-else-with-a-long-name.txt";
  touch(other.c_str());
  in.remove_strays();
  CHECK(scratch.files().size() == 4);
  CHECK(scratch.count_files(dibs::to_text(gid_of(1)).data()) == 2);
  CHECK(std::filesystem::exists(other));
  CHECK(std::filesystem::exists(in.rendezvous_path().data()));
}

TEST_CASE("fabric: devices that start while others sweep find their place" *
          doctest::test_suite("long")) {
  const scratch_fabric scratch;
  const fabric in = scratch.open();
  constexpr int rounds = 20000;
  const auto sweep = [&] {
    in.for_each_device([&](const gid& id) {
      if (!in.is_alive(id)) in.remove_device(id);
    });
  };
  support::child_process sweeper([&] {
    for (;;) sweep();
    return 0;
  });
  for (int i = 0; i < rounds; ++i) {
    gid id;
    dibs::fill_random(id.bytes.data(), id.bytes.size());
    {
      const auto home = in.create_home(id, dibs::page_size, dibs::page_size);
      REQUIRE(home.has_value());
      struct stat status {};
      REQUIRE(::stat(in.home_path(id).data(), &status) == 0);
      REQUIRE(in.is_alive(id));
    }
    if (i % 16 != 0) in.remove_device(id);  // else the sweeper has something to do
  }
  sweeper.kill();
  sweep();
  CHECK(scratch.files().empty());
}

TEST_CASE("fabric: a full tmpfs is an error code") {
  const auto status = support::in_tiny_tmpfs(64 * 1024, [](const std::filesystem::path& at) {
    const scratch_fabric scratch(at);
    const fabric in = scratch.open();
    const auto small = in.create_home(gid_of(1), 1 << 20, dibs::page_size);
    if (!small) return 1;
    const auto large = in.create_home(gid_of(2), 1 << 20, 1 << 20);
    if (large) return 2;
    if (large.error() != dibs::errc::fabric_full) return 3;
    return devices_of(in).size() == 1 ? 0 : 4;
  });
  if (!status) {
    MESSAGE("skipped: no permission to mount");
    return;
  }
  CHECK(*status == 0);
}
