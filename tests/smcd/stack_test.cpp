// SPDX-License-Identifier: Apache-2.0
#include <smcd/stack.hpp>

#include <support/child_process.hpp>
#include <support/sanitizers.hpp>
#include <support/scratch_fabric.hpp>
#include <support/tiny_tmpfs.hpp>
#include <support/two_ends.hpp>

#include <doctest/doctest.h>

#include <signal.h>
#include <sys/mman.h>

#include <filesystem>
#include <optional>
#include <string>

using smcd::stack;
using support::make_stack;
using support::scratch_fabric;

namespace {

std::string text_of(const dibs::gid& id) { return dibs::to_text(id).data(); }

}  // namespace

TEST_CASE("stack: it enters the fabric, and leaves nothing when it leaves") {
  const scratch_fabric scratch;
  {
    const auto one = make_stack(scratch);
    const std::string name = text_of(one->self().gid);
    CHECK(!one->self().gid.is_none());
    CHECK(one->self().fabric == dibs::loopback_fabric);
    CHECK(one->self().ueid_count == 1);
    CHECK(one->self().host[31] == ' ');
    CHECK(scratch.count_files(name + ".home") == 1);
    CHECK(scratch.count_files(name + ".events") == 1);
    const auto two = make_stack(scratch);
    CHECK(two->self().gid != one->self().gid);
    CHECK(scratch.files().size() == 5);
    CHECK(one->device().query_remote_gid(two->self().gid));
    const auto queue = dibs::event_queue::open(one->queues());
    REQUIRE(queue.has_value());
    CHECK(one->device().register_dmb(two->self().gid, dibs::min_dmb_size).has_value());
    two->leave();
    CHECK(scratch.count_files(text_of(two->self().gid) + ".home") == 0);
  }
  CHECK(scratch.files() == std::vector<std::string>{"rendezvous"});
}

TEST_CASE("stack: a fabric that cannot be used is an error") {
  smcd::config settings;
  std::string("/dev/null/nowhere").copy(settings.fabric.data(), 100);
  const auto made = std::make_unique<stack>(settings);
  CHECK(made->open() == dibs::system_error(ENOTDIR));
}

TEST_CASE("stack: a full tmpfs is an error, and leaves nothing behind") {
  for (const std::size_t size : {16U, 80U, 88U, 96U, 104U}) {
    const auto status = support::in_tiny_tmpfs(size * 1024, [](const std::filesystem::path& at) {
      const scratch_fabric scratch(at);
      smcd::config settings;
      scratch.directory().copy(settings.fabric.data(), 200);
      {
        const auto made = std::make_unique<stack>(settings);
        const smcd::error_code failure = made->open();
        if (failure && failure != dibs::errc::fabric_full) return 1;
      }
      for (const std::string& name : scratch.files()) {
        if (name != "rendezvous") return 2;
      }
      return 0;
    });
    if (!status) {
      MESSAGE("skipped: no permission to mount");
      return;
    }
    INFO(size);
    CHECK(*status == 0);
  }
}

TEST_CASE("stack: what a killed process left is swept by the next one, files and records") {
  const scratch_fabric scratch;
  support::meeting_point meet;
  const auto address = [](std::uint16_t port) { return dibs::v4_address(0x7F000001, port); };
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto& dead = *static_cast<dibs::gid*>(memory);
  const auto live = make_stack(scratch);
  support::child_process child([&] {
    const auto made = make_stack(scratch);
    dead = made->self().gid;
    const auto queue = dibs::event_queue::open(made->queues());
    static_cast<void>(made->device().register_dmb(live->self().gid, dibs::min_dmb_size));
    static_cast<void>(made->meeting().publish_listener(1, address(80), made->self().gid));
    static_cast<void>(made->meeting().publish({1, address(1), address(2)}, made->self().gid, 0, 0));
    static_cast<void>(made->ends().claim());
    meet.tell_parent();
    ::pause();
    return queue ? 0 : 1;
  });
  meet.await_child();
  REQUIRE(live->meeting().find({1, address(1), address(2)}).at != nullptr);
  REQUIRE(live->meeting().find_listener(1, address(80)) != nullptr);
  // Whoever comes while it lives leaves it alone.
  { const auto passer_by = make_stack(scratch); }
  CHECK(scratch.count_files(text_of(dead)) == 4);
  child.kill();
  CHECK(scratch.count_files(text_of(dead)) == 4);

  const auto next = make_stack(scratch);
  CHECK(scratch.count_files(text_of(dead)) == 0);
  CHECK(live->meeting().find({1, address(1), address(2)}).at == nullptr);
  CHECK(live->meeting().find_listener(1, address(80)) == nullptr);
  CHECK(scratch.files().size() == 1 + 2 + 2);
  ::munmap(memory, 4096);
}

namespace {

stack* leaver = nullptr;
void* guarded_page = nullptr;

void leave_in_the_midst(int) {
  leaver->leave();
  ::mprotect(guarded_page, dibs::page_size, PROT_READ | PROT_WRITE);
}

}  // namespace

TEST_CASE("stack: a process that ends while a thread makes a record is swept like a killed one" *
          doctest::skip(support::is_tsan)) {
  const scratch_fabric scratch;
  const dibs::connection_key key{1, dibs::v4_address(1, 1), dibs::v4_address(1, 2)};
  support::child_process child([&] {
    const auto made = make_stack(scratch);
    dibs::rendezvous& at = made->meeting();
    const dibs::record_ref first = at.publish(key, made->self().gid, 0, 0);
    at.release(first, true);
    leaver = made.get();
    guarded_page = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(first.at) &
                                           ~std::uintptr_t{dibs::page_size - 1});
    struct sigaction action {};
    action.sa_handler = leave_in_the_midst;
    ::sigaction(SIGSEGV, &action, nullptr);
    ::mprotect(guarded_page, dibs::page_size, PROT_READ);
    return at.publish(key, made->self().gid, 0, 0).at == first.at ? 0 : 1;
  });
  CHECK(child.wait() == 0);
  CHECK(scratch.count_files(".home") == 1);
  const auto next = make_stack(scratch);
  CHECK(scratch.count_files(".home") == 1);
  CHECK(next->meeting().find(key).at == nullptr);
  CHECK(next->meeting().taken_slots() == 1);  // its own device
}

TEST_CASE("stack: processes that enter and leave at once all find their place" *
          doctest::test_suite("long")) {
  const scratch_fabric scratch;
  const auto body = [&] {
    for (int i = 0; i < 300; ++i) {
      const auto made = make_stack(scratch);
      if (!made->device().query_remote_gid(made->self().gid)) return 1;
      if (scratch.count_files(text_of(made->self().gid) + ".home") != 1) return 2;
    }
    return 0;
  };
  support::child_process one(body);
  support::child_process two(body);
  support::child_process three(body);
  CHECK(one.wait() == 0);
  CHECK(two.wait() == 0);
  CHECK(three.wait() == 0);
  CHECK(scratch.files() == std::vector<std::string>{"rendezvous"});
}
