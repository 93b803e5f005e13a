// SPDX-License-Identifier: Apache-2.0
#include <devices/mapping.hpp>

#include <devices/unique_fd.hpp>
#include <support/scratch_fabric.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cstring>
#include <utility>

using dibs::mapping;
using dibs::page_size;

namespace {

dibs::unique_fd open_in(const support::scratch_fabric& directory, const char* name) {
  return dibs::unique_fd(
      ::open((directory.directory() + "/" + name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

off_t size_of(int fd) {
  struct stat status {};
  REQUIRE(::fstat(fd, &status) == 0);
  return status.st_size;
}

}  // namespace

TEST_CASE("mapping: what one mapping writes another one reads") {
  const support::scratch_fabric directory;
  const dibs::unique_fd file = open_in(directory, "a");
  REQUIRE(!dibs::reserve(file.get(), 0, 2 * page_size));
  const auto writer = mapping::map(file.get(), 2 * page_size);
  const auto reader = mapping::map(file.get(), page_size, page_size, false);
  REQUIRE(writer.has_value());
  REQUIRE(reader.has_value());
  CHECK(reader->size() == page_size);
  std::strcpy(reinterpret_cast<char*>(writer->data()) + page_size, "over there");
  CHECK(std::strcmp(reinterpret_cast<const char*>(reader->data()), "over there") == 0);
}

TEST_CASE("mapping: ownership moves, and a released mapping stays") {
  const support::scratch_fabric directory;
  const dibs::unique_fd file = open_in(directory, "a");
  REQUIRE(!dibs::reserve(file.get(), 0, page_size));
  auto made = mapping::map(file.get(), page_size);
  REQUIRE(made.has_value());
  std::byte* const at = made->data();
  mapping moved = std::move(*made);
  CHECK(moved.data() == at);
  CHECK(!made->is_mapped());
  mapping assigned;
  assigned = std::move(moved);
  CHECK(assigned.data() == at);
  CHECK(!moved.is_mapped());
  CHECK(assigned.release() == at);
  CHECK(!assigned.is_mapped());
  at[0] = std::byte{1};

  // Over the place that is ours already, without a moment of nothing there.
  const dibs::unique_fd other = open_in(directory, "b");
  REQUIRE(!dibs::reserve(other.get(), 0, page_size));
  auto over = mapping::map(other.get(), page_size, 0, true, at);
  REQUIRE(over.has_value());
  CHECK(over->data() == at);
  CHECK(at[0] == std::byte{0});
}

TEST_CASE("mapping: a mapping keeps the lock of its descriptor") {
  const support::scratch_fabric directory;
  mapping held;
  {
    const dibs::unique_fd file = open_in(directory, "a");
    REQUIRE(!dibs::reserve(file.get(), 0, page_size));
    REQUIRE(::flock(file.get(), LOCK_EX | LOCK_NB) == 0);
    auto made = mapping::map(file.get(), page_size);
    REQUIRE(made.has_value());
    held = std::move(*made);
  }
  const dibs::unique_fd again = open_in(directory, "a");
  CHECK(::flock(again.get(), LOCK_EX | LOCK_NB) != 0);
  held = mapping();
  CHECK(::flock(again.get(), LOCK_EX | LOCK_NB) == 0);
}

TEST_CASE("mapping: errors are those of the system") {
  const auto none = mapping::map(-1, page_size);
  REQUIRE(!none.has_value());
  CHECK(none.error() == dibs::system_error(EBADF));
  CHECK(dibs::reserve(-1, 0, page_size) == dibs::system_error(EBADF));
}

TEST_CASE("mapping: reserve makes a file longer, and never shorter") {
  const support::scratch_fabric directory;
  const dibs::unique_fd file = open_in(directory, "a");
  REQUIRE(!dibs::reserve(file.get(), page_size, page_size));
  CHECK(size_of(file.get()) == 2 * page_size);
  REQUIRE(!dibs::reserve(file.get(), 0, 1));
  CHECK(size_of(file.get()) == 2 * page_size);
}

TEST_CASE("mapping: random numbers are not zero and not the same") {
  const std::uint64_t one = dibs::random_number();
  CHECK(one != 0);
  CHECK(one != dibs::random_number());
}

TEST_CASE("unique_fd: closes what it holds, once, and leaves errno alone") {
  const support::scratch_fabric directory;
  dibs::unique_fd file = open_in(directory, "a");
  const int number = file.get();
  dibs::unique_fd moved = std::move(file);
  CHECK(!file.is_open());
  CHECK(moved.get() == number);
  CHECK(::fcntl(number, F_GETFD) >= 0);
  errno = ERANGE;
  moved.reset();
  CHECK(errno == ERANGE);
  CHECK(::fcntl(number, F_GETFD) < 0);
}

TEST_CASE("mapping: a part that is reserved has memory, and what stood there stays") {
  const support::scratch_fabric directory;
  const dibs::unique_fd file = open_in(directory, "a");
  REQUIRE(::ftruncate(file.get(), 8 * page_size) == 0);
  const auto memory = mapping::map(file.get(), 8 * page_size);
  REQUIRE(memory.has_value());
  const std::span whole(memory->data(), memory->size());
  CHECK(directory.memory_of("a") == 0);
  errno = EXDEV;
  // From the last byte of a page to the first of another one.
  CHECK(!dibs::reserve(whole.subspan(2 * page_size - 1, page_size + 2)));
  CHECK(errno == EXDEV);
  CHECK(directory.memory_of("a") == 3 * page_size);
  std::memset(whole.data() + page_size, 0x11, 3 * page_size);
  CHECK(!dibs::reserve(whole));
  CHECK(directory.memory_of("a") == 8 * page_size);
  CHECK(whole[0] == std::byte{0});
  CHECK(whole[page_size] == std::byte{0x11});
}

TEST_CASE("mapping: only pages that lie wholly in a part are given back, and come back empty") {
  const support::scratch_fabric directory;
  const dibs::unique_fd file = open_in(directory, "a");
  REQUIRE(!dibs::reserve(file.get(), 0, 8 * page_size));
  const auto memory = mapping::map(file.get(), 8 * page_size);
  const auto other = mapping::map(file.get(), 8 * page_size);
  REQUIRE(memory.has_value());
  REQUIRE(other.has_value());
  const std::span whole(memory->data(), memory->size());
  std::memset(whole.data(), 0x22, whole.size());
  errno = EXDEV;
  dibs::give_back(whole.subspan(1, page_size));
  dibs::give_back(whole.subspan(page_size, page_size - 1));
  dibs::give_back(whole.subspan(100, 100));
  dibs::give_back({});
  CHECK(directory.memory_of("a") == 8 * page_size);
  dibs::give_back(whole.subspan(2 * page_size - 1, 3 * page_size));
  CHECK(errno == EXDEV);
  CHECK(directory.memory_of("a") == 6 * page_size);
  CHECK(!dibs::reserve(whole));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    const bool is_given = at >= 2 * page_size && at < 4 * page_size;
    REQUIRE(other->data()[at] == (is_given ? std::byte{0} : std::byte{0x22}));
  }
}

TEST_CASE("mapping: a part that has no file behind it is an error") {
  const support::scratch_fabric directory;
  const dibs::unique_fd file = open_in(directory, "a");
  REQUIRE(!dibs::reserve(file.get(), 0, page_size));
  const auto memory = mapping::map(file.get(), 4 * page_size);
  REQUIRE(memory.has_value());
  CHECK(dibs::reserve({memory->data(), 4 * page_size}) == dibs::errc::fabric_full);
  const auto readable = mapping::map(file.get(), page_size, 0, false);
  REQUIRE(readable.has_value());
  CHECK(dibs::reserve({readable->data(), page_size}) == dibs::system_error(EINVAL));
}
