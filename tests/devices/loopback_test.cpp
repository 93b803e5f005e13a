// SPDX-License-Identifier: Apache-2.0
#include <devices/loopback.hpp>

#include <devices/ticks.hpp>

#include "device_conformance.hpp"

#include <support/child_process.hpp>
#include <support/random.hpp>
#include <support/scratch_fabric.hpp>
#include <support/tiny_tmpfs.hpp>

#include <doctest/doctest.h>

#include <sys/mman.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

using conformance::registered;
using dibs::dmb;
using dibs::gid;
using dibs::loopback;
using support::scratch_fabric;

namespace {

gid gid_of(std::uint8_t value) {
  gid id;
  id.bytes.fill(value);
  return id;
}

struct device_on {
  device_on(const dibs::fabric& in, const gid& id) {
    auto made = in.create_home(id, dibs::page_size, dibs::page_size);
    REQUIRE(made.has_value());
    home = std::move(made->memory);
    device = std::make_unique<loopback>(in, id);
  }
  dibs::mapping home;
  std::unique_ptr<loopback> device;
};

struct fixture {
  dibs::device& owner() { return *one.device; }
  dibs::device& writer() { return *two.device; }
  // The lock of its home goes; its device object stays, as a killed process
  // runs no destructor. Kept where a search for leaks finds it.
  void writer_dies() {
    static auto& killed = *new std::vector<loopback*>;
    two.home = dibs::mapping();
    killed.push_back(two.device.release());
  }
  // The owner lets go of memory of the dead when it meets somebody new.
  void expect_dropped(const gid& writer) {
    const std::string file = std::string(dibs::to_text(writer).data()) + ".dmb";
    CHECK(scratch.count_files(file) == 1);
    device_on three(in, gid_of(3));
    static_cast<void>(registered(owner(), gid_of(3)));
    CHECK(scratch.count_files(file) == 0);
  }

  scratch_fabric scratch;
  dibs::fabric in = scratch.open();
  device_on one{in, gid_of(1)};
  device_on two{in, gid_of(2)};
};

}  // namespace

TEST_CASE("loopback: it is a device") { conformance::run<fixture>(); }

TEST_CASE("loopback: attaching to ourselves gives the mapping that we have") {
  fixture on;
  const dmb mine = registered(on.owner(), on.owner().id());
  const auto attached = on.owner().attach_dmb(on.owner().id(), mine.token);
  REQUIRE(attached.has_value());
  CHECK(attached->memory.data() == mine.memory.data());
  CHECK(attached->memory.size() == mine.memory.size());
  CHECK(!on.owner().move_data(on.owner().id(), mine.token, 40, conformance::bytes_of("self")));
  CHECK(conformance::holds(mine.memory.subspan(40), "self"));
  on.owner().unregister_dmb(on.owner().id(), mine.token);
  CHECK(registered(on.owner(), on.owner().id()).memory.data() != mine.memory.data());
  on.owner().detach_dmb(on.owner().id(), mine.token);
  CHECK(registered(on.owner(), on.owner().id()).memory.data() == mine.memory.data());
}

TEST_CASE("loopback: each pair of devices has files of its own, gone with their owner") {
  const scratch_fabric scratch;
  const dibs::fabric in = scratch.open();
  device_on one(in, gid_of(1));
  device_on two(in, gid_of(2));
  device_on three(in, gid_of(3));
  static_cast<void>(registered(*one.device, gid_of(2)));
  static_cast<void>(registered(*one.device, gid_of(3)));
  const dmb theirs = registered(*two.device, gid_of(1));
  REQUIRE(one.device->attach_dmb(gid_of(2), theirs.token).has_value());
  CHECK(scratch.count_files(".dmb") == 3);
  const auto attached = one.device->attach_dmb(gid_of(2), theirs.token);
  CHECK(!attached.has_value());
  one.device.reset();
  CHECK(scratch.count_files(".dmb") == 1);
  two.device.reset();
  CHECK(scratch.count_files(".dmb") == 0);
}

TEST_CASE("loopback: a peer in another process writes, dies, and what it wrote stays") {
  fixture on;
  support::meeting_point meet;
  const gid peer = gid_of(9);
  const dmb mine = registered(on.owner(), peer);
  support::child_process child([&] {
    const device_on theirs(on.in, peer);
    const auto attached = theirs.device->attach_dmb(on.owner().id(), mine.token);
    if (!attached) return 1;
    std::memcpy(attached->memory.data() + 64, "alive", 5);
    meet.tell_parent();
    ::pause();
    return 0;
  });
  meet.await_child();
  CHECK(on.owner().query_remote_gid(peer));
  child.kill();
  CHECK(!on.owner().query_remote_gid(peer));
  CHECK(conformance::holds(mine.memory.subspan(64), "alive"));
}

TEST_CASE("loopback: a hostile directory of DMBs gives error codes and no crash") {
  fixture on;
  const dmb theirs = registered(on.owner(), on.writer().id());
  REQUIRE(on.writer().attach_dmb(on.owner().id(), theirs.token).has_value());
  on.writer().detach_dmb(on.owner().id(), theirs.token);

  // The owner writes nonsense into its file behind the device's back.
  const auto name = on.in.dmb_path(on.owner().id(), on.writer().id());
  const dibs::unique_fd file(::open(name.data(), O_RDWR | O_CLOEXEC));
  REQUIRE(file.is_open());
  const auto memory = dibs::mapping::map(file.get(), 64 * 1024);
  REQUIRE(memory.has_value());
  const auto index = static_cast<std::size_t>(theirs.token.value & 2047);
  auto* entry = memory->at<dibs::dmb_entry>((index + 1) * sizeof(dibs::dmb_entry));
  REQUIRE(entry->token.load() == theirs.token.value);
  const std::uint64_t good_offset = entry->offset;
  const std::uint32_t good_size = entry->size;
  for (const std::uint32_t size : {0U, 1U, 16385U, 8192U, 8U << 20, 0x80000000U, ~0U}) {
    entry->size = size;
    CHECK(on.writer().attach_dmb(on.owner().id(), theirs.token).error() == dibs::errc::bad_size);
    CHECK(entry->attached.load() == 0);
  }
  entry->size = good_size;
  for (const std::uint64_t offset :
       {std::uint64_t{0}, std::uint64_t{32}, good_offset + 1, good_offset + 8192,
        std::uint64_t{64} * 1024 - 16384, std::uint64_t{64} * 1024 + (std::uint64_t{256} << 22),
        std::uint64_t{64} * 1024 + (std::uint64_t{255} << 22), std::uint64_t{1} << 62,
        ~std::uint64_t{0}}) {
    entry->offset = offset;
    CHECK(!on.writer().attach_dmb(on.owner().id(), theirs.token).has_value());
  }
  entry->offset = good_offset;
  CHECK(on.writer().attach_dmb(on.owner().id(), theirs.token).has_value());
}

TEST_CASE("loopback: a full tmpfs is fabric_full, never SIGBUS, and room comes back") {
  const auto status = support::in_tiny_tmpfs(1 << 20, [](const std::filesystem::path& at) {
    const scratch_fabric scratch(at);
    const dibs::fabric in = scratch.open();
    device_on one(in, gid_of(1));
    device_on two(in, gid_of(2));
    std::vector<dmb> made;
    dibs::error_code failure;
    for (int i = 0; i < 1000; ++i) {
      const auto next = one.device->register_dmb(gid_of(2), 64 * 1024);
      if (!next) {
        failure = next.error();
        break;
      }
      // What it is made with has memory behind it, and what is reserved then.
      std::memset(next->memory.data(), 0x55, dibs::reserved_size);
      failure = dibs::reserve(next->memory);
      if (failure) break;
      std::memset(next->memory.data(), 0x55, next->memory.size());
      made.push_back(*next);
    }
    if (failure != dibs::errc::fabric_full) return 1;
    if (made.size() < 10) return 2;
    // Not even a small one, of a class that has no chunk yet.
    std::size_t small = 0;
    while (one.device->register_dmb(gid_of(2), 16 * 1024).has_value()) ++small;
    if (small > 4) return 3;
    if (one.device->register_dmb(gid_of(2), 4 << 20).error() != dibs::errc::fabric_full) return 4;
    // A new pair has no file yet.
    const auto other = two.device->register_dmb(gid_of(1), 16 * 1024);
    if (other) return 5;
    one.device->unregister_dmb(gid_of(2), made.back().token);
    const auto again = one.device->register_dmb(gid_of(2), 64 * 1024);
    if (!again || again->memory.data() != made.back().memory.data()) return 6;
    std::memset(again->memory.data(), 0x66, again->memory.size());
    return 0;
  });
  if (!status) {
    MESSAGE("skipped: no permission to mount");
    return;
  }
  CHECK(*status == 0);
}

TEST_CASE("loopback: a DMB has memory where its writer wants it, and a new one little") {
  fixture on;
  static_cast<void>(registered(on.owner(), on.writer().id(), 256 * 1024));
  const auto memory = [&] { return on.scratch.memory_of(".dmb"); };
  const std::size_t made = memory();
  CHECK(made <= 3 * dibs::page_size + dibs::reserved_size);
  const dmb mine = registered(on.owner(), on.writer().id(), 256 * 1024);
  CHECK(memory() == made + dibs::reserved_size);
  auto theirs = on.writer().attach_dmb(on.owner().id(), mine.token);
  REQUIRE(theirs.has_value());
  REQUIRE(!dibs::reserve(theirs->memory.subspan(64 * 1024, 32 * 1024)));
  CHECK(memory() == made + dibs::reserved_size + 32 * 1024);
  std::memcpy(theirs->memory.data() + 80 * 1024, "here", 4);
  CHECK(conformance::holds(mine.memory.subspan(80 * 1024), "here"));
  dibs::give_back(theirs->memory.subspan(32));
  CHECK(memory() == made + dibs::page_size);
  // Also what is copied there by the device.
  const auto text = conformance::bytes_of("copied");
  REQUIRE(!on.writer().move_data(on.owner().id(), mine.token, 128 * 1024 - 3, text));
  CHECK(memory() == made + 3 * dibs::page_size);
  CHECK(conformance::holds(mine.memory.subspan(128 * 1024 - 3), "copied"));
  // One that is used again has what a new one has.
  on.writer().detach_dmb(on.owner().id(), mine.token);
  on.owner().unregister_dmb(on.writer().id(), mine.token);
  const dmb again = registered(on.owner(), on.writer().id(), 256 * 1024);
  CHECK(again.memory.data() == mine.memory.data());
  CHECK(memory() == made + 2 * dibs::page_size + dibs::reserved_size);
}

TEST_CASE("loopback: threads register and attach at once") {
  fixture on;
  const gid owner = on.owner().id();
  const gid writer = on.writer().id();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 2000; ++round) {
        const auto mine = on.owner().register_dmb(writer, dibs::min_dmb_size << i % 2);
        const auto theirs = mine ? on.writer().attach_dmb(owner, mine->token) : mine;
        if (!mine || !theirs) {
          ++wrong;
          continue;
        }
        std::memcpy(mine->memory.data() + 40, &i, sizeof i);
        if (std::memcmp(mine->memory.data() + 40, &i, sizeof i) != 0) ++wrong;
        if (round % 2 == 0) on.writer().detach_dmb(owner, mine->token);
        on.owner().unregister_dmb(writer, mine->token);
        if (round % 2 != 0) on.writer().detach_dmb(owner, mine->token);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("loopback: owner and writer in different processes never share a DMB that is reused") {
  fixture on;
  const gid peer = gid_of(9);
  // The owner offers a token and takes it back at once, the child attaches it at
  // that moment. Both write the token of the DMB that they believe to have.
  struct words {
    alignas(64) std::atomic<std::uint64_t> offered;
    alignas(64) std::atomic<std::uint64_t> attached;
    std::atomic<bool> is_over;
  };
  void* memory =
      ::mmap(nullptr, sizeof(words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto& shared = *static_cast<words*>(memory);
  support::meeting_point meet;
  support::child_process child([&] {
    const device_on theirs(on.in, peer);
    meet.tell_parent();
    while (!shared.is_over) {
      const dibs::dmb_token token{shared.offered.load()};
      const auto attached = theirs.device->attach_dmb(on.owner().id(), token);
      if (!attached) continue;
      ++shared.attached;
      std::atomic_ref word(*reinterpret_cast<std::uint64_t*>(attached->memory.data() + 64));
      word.store(token.value);
      for (int i = 0; i < 50; ++i) {
        if (word.load() != token.value) return 1;
      }
      theirs.device->detach_dmb(on.owner().id(), token);
    }
    return 0;
  });
  meet.await_child();
  support::random random(5);
  int strangers = 0;
  for (int i = 0; i < 200000; ++i) {
    const dmb mine = registered(on.owner(), peer);
    std::atomic_ref word(*reinterpret_cast<std::uint64_t*>(mine.memory.data() + 64));
    word.store(mine.token.value);
    shared.offered = mine.token.value;
    for (std::size_t n = random.below(20); n > 0; --n) dibs::relax();
    if (word.load() != mine.token.value) ++strangers;
    on.owner().unregister_dmb(peer, mine.token);
  }
  shared.is_over = true;
  CHECK(child.wait() == 0);
  CHECK(strangers == 0);
  MESSAGE("attached " << shared.attached.load() << " times");
  ::munmap(memory, sizeof(words));
}
