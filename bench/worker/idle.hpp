// SPDX-License-Identifier: Apache-2.0
#pragma once
// What connections cost that are left alone: memory, and CPU time.

#include <worker/clock.hpp>
#include <worker/task.hpp>

#include <sys/stat.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

namespace bench {

// Bytes of memory that are this process's alone.
[[nodiscard]] inline double own_memory() {
  std::ifstream from("/proc/self/smaps_rollup");
  for (std::string word; from >> word;) {
    double kilobytes = 0;
    if (word == "Anonymous:" && from >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// Bytes that the files of the fabric take. No fabric: none.
[[nodiscard]] inline double fabric_memory() {
  const char* directory = std::getenv("DIBSOCK_FABRIC");
  double bytes = 0;
  std::error_code failure;
  using every_file = std::filesystem::recursive_directory_iterator;
  for (every_file at(directory != nullptr ? directory : "", failure), end; !failure && at != end;
       at.increment(failure)) {
    struct stat file {};
    if (::lstat(at->path().c_str(), &file) == 0) bytes += static_cast<double>(file.st_blocks) * 512;
  }
  return bytes;
}

// One end's part of the cost. Made before the connections are; of the two ends,
// the client answers for the fabric.
class idle_watch {
 public:
  explicit idle_watch(const task& how) : how_(how), memory_before_(memory()) {}

  // Something happened. If nothing had for as long as was asked for, it is told.
  void stir() {
    if (how_.what != kind::idle) return;
    const std::uint64_t now = now_ns();
    const double used = cpu_seconds();
    const double rested = static_cast<double>(now - since_ns_) / 1e9;
    if (since_ns_ != 0 && rested >= static_cast<double>(how_.hold_ms) / 1e3 * 0.9) {
      if (std::exchange(has_rested_, true)) return;
      say("idle_cpu", (used - cpu_since_) / rested);
      say("memory", (memory() - memory_before_) / static_cast<double>(how_.connections));
    }
    cpu_since_ = used;
    since_ns_ = now;
  }

 private:
  [[nodiscard]] double memory() const {
    return own_memory() + (how_.is_server ? 0 : fabric_memory());
  }

  const task& how_;
  double memory_before_;
  double cpu_since_ = 0;
  std::uint64_t since_ns_ = 0;
  bool has_rested_ = false;
};

}  // namespace bench
