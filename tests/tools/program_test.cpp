// SPDX-License-Identifier: Apache-2.0
#include <tools/program.hpp>
// first, to prove that it stands alone
#include <doctest/doctest.h>

#include <support/child_process.hpp>

#include "tool.hpp"

#include <elf.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

using support::scratch_directory;
using tools::inspect;
using tools::obstacle;

namespace {

std::string content_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_program(const std::string& path, const std::string& content, unsigned mode = 0755) {
  std::ofstream(path, std::ios::binary) << content;
  REQUIRE(::chmod(path.c_str(), mode) == 0);
}

constexpr unsigned nobody = 65534;

bool honours_set_uid(const std::string& path) {
  struct statvfs mount {};
  return ::statvfs(path.c_str(), &mount) == 0 && (mount.f_flag & ST_NOSUID) == 0;
}

}  // namespace

TEST_CASE("program: a program of the system can be reached") {
  CHECK(inspect("/bin/sh").why_not == obstacle::none);
  CHECK(inspect("/bin/sh").script.empty());
}

TEST_CASE("program: one without a dynamic linker cannot") {
  CHECK(inspect(STATIC_PROGRAM).why_not == obstacle::static_program);
}

TEST_CASE("program: another word size, machine or C library is told apart") {
  const scratch_directory scratch;
  const std::string original = content_of("/bin/sh");
  REQUIRE(original.size() > sizeof(Elf64_Ehdr));

  std::string changed = original;
  changed[EI_CLASS] = changed[EI_CLASS] == ELFCLASS64 ? ELFCLASS32 : ELFCLASS64;
  write_program(scratch / "class", changed);
  CHECK(inspect(scratch / "class").why_not == obstacle::other_class);

  changed = original;
  changed[offsetof(Elf64_Ehdr, e_machine)] ^= 0x40;
  write_program(scratch / "machine", changed);
  CHECK(inspect(scratch / "machine").why_not == obstacle::other_machine);

  changed = original;
  const std::size_t linker = changed.find("/ld-linux");
  REQUIRE(linker != std::string::npos);
  changed.replace(linker, 9, "/ld-muslX");
  write_program(scratch / "libc", changed);
  CHECK(inspect(scratch / "libc").why_not == obstacle::other_libc);
}

TEST_CASE("program: headers that make no sense are left to exec") {
  const scratch_directory scratch;
  const std::string original = content_of("/bin/sh");
  for (const std::size_t size : {0UL, 1UL, 3UL, 4UL, 63UL, 64UL, 100UL}) {
    write_program(scratch / "short", original.substr(0, size));
    CHECK(inspect(scratch / "short").why_not == obstacle::none);
  }
  // One wrong byte, wherever it stands in the headers.
  std::string changed = original.substr(0, 4096);
  for (std::size_t at = EI_CLASS + 1; at < 512; ++at) {
    changed[at] = '\xFF';
    write_program(scratch / "strange", changed);
    changed[at] = original[at];
    static_cast<void>(inspect(scratch / "strange"));
  }
  CHECK(inspect(scratch / "missing").why_not == obstacle::none);
  CHECK(inspect("/").why_not == obstacle::none);
}

TEST_CASE("program: a script is what its interpreter is") {
  const scratch_directory scratch;
  write_program(scratch / "script", "#! " STATIC_PROGRAM " -x\nanything\n");
  CHECK(inspect(scratch / "script").file == STATIC_PROGRAM);
  CHECK(inspect(scratch / "script").script == scratch / "script");
  CHECK(inspect(scratch / "script").why_not == obstacle::static_program);

  write_program(scratch / "outer", "#!" + (scratch / "script"));
  CHECK(inspect(scratch / "outer").file == STATIC_PROGRAM);
  CHECK(inspect(scratch / "outer").script == scratch / "script");

  write_program(scratch / "shell", "#!\t/bin/sh\n");
  CHECK(inspect(scratch / "shell").file == "/bin/sh");
  CHECK(inspect(scratch / "shell").why_not == obstacle::none);

  write_program(scratch / "loop", "#!" + (scratch / "loop") + "\n");
  CHECK(inspect(scratch / "loop").why_not == obstacle::none);
  write_program(scratch / "nothing", "#!\n");
  CHECK(inspect(scratch / "nothing").why_not == obstacle::none);
  write_program(scratch / "text", "echo no first line\n");
  CHECK(inspect(scratch / "text").why_not == obstacle::none);
}

TEST_CASE("program: set-uid and set-gid count if they change who we are") {
  const scratch_directory scratch;
  const std::string path = scratch / "program";
  write_program(path, content_of("/bin/sh"));
  REQUIRE(::chmod(path.c_str(), 06755) == 0);
  CHECK(inspect(path).why_not == obstacle::none);  // it is our own
  if (::getuid() != 0 || !honours_set_uid(path)) {
    MESSAGE("not tried: only root can give a file away");
    return;
  }
  REQUIRE(::chown(path.c_str(), nobody, 0) == 0);
  REQUIRE(::chmod(path.c_str(), 04755) == 0);
  CHECK(inspect(path).why_not == obstacle::set_uid);
  REQUIRE(::chown(path.c_str(), 0, nobody) == 0);
  REQUIRE(::chmod(path.c_str(), 02755) == 0);
  CHECK(inspect(path).why_not == obstacle::set_gid);
  REQUIRE(::chmod(path.c_str(), 02745) == 0);
  CHECK(inspect(path).why_not == obstacle::none);
}

TEST_CASE("program: file capabilities count for everybody but root") {
  const scratch_directory scratch;
  const std::string path = scratch / "program";
  write_program(path, content_of("/bin/sh"));
  vfs_cap_data rights{};
  rights.magic_etc = VFS_CAP_REVISION_2;
  rights.data[0].permitted = 1U << CAP_NET_BIND_SERVICE;
  if (::setxattr(path.c_str(), "security.capability", &rights, sizeof rights, 0) != 0 ||
      !honours_set_uid(path)) {
    MESSAGE("not tried: only root can give capabilities to a file");
    return;
  }
  CHECK(inspect(path).why_not == obstacle::none);
  REQUIRE(::chmod((scratch / ".").c_str(), 0755) == 0);
  support::child_process other([&] {
    if (::setgid(nobody) != 0 || ::setuid(nobody) != 0) return 2;
    return inspect(path).why_not == obstacle::capabilities ? 0 : 1;
  });
  CHECK(other.wait() == 0);
}

TEST_CASE("program: commands are found as execvp finds them") {
  const scratch_directory scratch;
  REQUIRE(::mkdir((scratch / "one").c_str(), 0755) == 0);
  REQUIRE(::mkdir((scratch / "two").c_str(), 0755) == 0);
  REQUIRE(::mkdir((scratch / "one/tool").c_str(), 0755) == 0);  // a directory is no program
  write_program(scratch / "one/plain", "", 0644);
  write_program(scratch / "two/tool", "");
  write_program(scratch / "two/plain", "");
  const std::string before = std::getenv("PATH");
  REQUIRE(::setenv("PATH", ((scratch / "one") + ":/nowhere:" + (scratch / "two")).c_str(), 1) == 0);
  CHECK(tools::find_in_path("tool") == scratch / "two/tool");
  CHECK(tools::find_in_path("plain") == scratch / "two/plain");
  CHECK(!tools::find_in_path("missing"));
  CHECK(!tools::find_in_path(""));
  CHECK(tools::find_in_path(scratch / "two/tool") == scratch / "two/tool");
  CHECK(!tools::find_in_path(scratch / "one/plain"));
  REQUIRE(::setenv("PATH", before.c_str(), 1) == 0);
}
