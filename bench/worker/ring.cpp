// SPDX-License-Identifier: Apache-2.0
// The raw ring: what is left of a connection when all but the memory is taken
// away. Its figures are the limit for everybody who shares memory.
#include <worker/ring.hpp>

#include <worker/loops.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace bench {
namespace {

struct both_ways {
  ring to_server;
  ring to_client;
};

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::system_category(), what);
}

class stream {
 public:
  stream(ring& in, ring& out, bool shares_cpu) noexcept
      : in_(in, shares_cpu), out_(out, shares_cpu) {}
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  ~stream() { out_.shut_down(); }

  std::size_t read(std::span<std::byte> to) noexcept { return in_.read(to); }
  void write(std::span<const std::byte> from) noexcept { out_.write(from); }
  void shut_down() noexcept { out_.shut_down(); }
  [[nodiscard]] std::optional<std::uint64_t> kernel_bytes() const noexcept { return std::nullopt; }

 private:
  ring_reader in_;
  ring_writer out_;
};

// The address is a file, which the server makes and the driver removes.
class side {
 public:
  explicit side(const task& how) : how_(how) {
    const int fd =
        ::open(how.address.c_str(), O_RDWR | O_CLOEXEC | (how.is_server ? O_CREAT : 0), 0600);
    if (fd < 0) fail("open");
    if (how.is_server && ::ftruncate(fd, sizeof(both_ways)) != 0) fail("ftruncate");
    void* memory = ::mmap(nullptr, sizeof(both_ways), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_POPULATE, fd, 0);
    ::close(fd);
    if (memory == MAP_FAILED) fail("mmap");
    rings_ = static_cast<both_ways*>(memory);
    if (how.is_server) say("ready", how.address);
  }

  stream accept() noexcept { return {rings_->to_server, rings_->to_client, how_.shares_cpu}; }
  stream connect() noexcept { return {rings_->to_client, rings_->to_server, how_.shares_cpu}; }

 private:
  task how_;
  both_ways* rings_ = nullptr;
};

}  // namespace
}  // namespace bench

int main(int count, char** values) {
  return bench::run_worker(count, values, bench::work<bench::side>);
}
