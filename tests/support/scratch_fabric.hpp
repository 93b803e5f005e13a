// SPDX-License-Identifier: Apache-2.0
#pragma once
// A fabric directory for one test, gone with everything in it at the end. Its
// name carries our pid, so that a later run removes what a killed one left.

#include <devices/fabric.hpp>

#include <support/require.hpp>

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace support {

class scratch_fabric {
 public:
  explicit scratch_fabric(const std::filesystem::path& in = "/dev/shm") {
    static int count = 0;
    sweep(in);
    path_ = in / (prefix + std::to_string(::getpid()) + "-" + std::to_string(++count));
    std::filesystem::create_directory(path_);
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
  }
  scratch_fabric(const scratch_fabric&) = delete;
  scratch_fabric& operator=(const scratch_fabric&) = delete;
  ~scratch_fabric() {
    std::error_code ignored;
    // A forked child leaves the directory to its parent.
    if (maker_ == ::getpid()) std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::string& directory() const { return path_.native(); }

  [[nodiscard]] dibs::fabric open() const {
    const auto opened = dibs::fabric::open(directory());
    require(opened.has_value(), "the fabric opens");
    return *opened;
  }

  // Names of the files in it, sorted.
  [[nodiscard]] std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  [[nodiscard]] std::size_t count_files(const std::string& containing) const {
    const auto names = files();
    return static_cast<std::size_t>(std::count_if(
        names.begin(), names.end(),
        [&](const std::string& name) { return name.find(containing) != std::string::npos; }));
  }
  // Memory that the files of such names have, in bytes.
  [[nodiscard]] std::size_t memory_of(const std::string& containing) const {
    std::size_t blocks = 0;
    for (const std::string& name : files()) {
      struct stat status {};
      if (name.find(containing) == std::string::npos ||
          ::stat((path_ / name).c_str(), &status) != 0) {
        continue;
      }
      blocks += static_cast<std::size_t>(status.st_blocks);
    }
    return blocks * 512;
  }

 private:
  static constexpr const char* prefix = "dibsock-test-";

  static void sweep(const std::filesystem::path& in) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(in, ignored)) {
      const std::string name = entry.path().filename();
      if (name.rfind(prefix, 0) != 0) continue;
      const int pid = std::atoi(name.c_str() + std::string(prefix).size());
      if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) {
        std::filesystem::remove_all(entry.path(), ignored);
      }
    }
  }

  std::filesystem::path path_;
  pid_t maker_ = ::getpid();
};

}  // namespace support
