// SPDX-License-Identifier: Apache-2.0
#pragma once
// A tmpfs that is soon full, in a child process with mounts of its own.

#include <support/child_process.hpp>

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>

namespace support {

// Runs body(path of the mount) in a child; its exit status, or nothing where
// mounting is not permitted.
template <class Body>
std::optional<int> in_tiny_tmpfs(std::size_t size, Body body) {
  constexpr int cannot_mount = 77;
  const std::filesystem::path at =
      std::filesystem::temp_directory_path() / ("dibsock-tmpfs-" + std::to_string(::getpid()));
  std::filesystem::create_directory(at);
  child_process child([&] {
    const std::string options = "size=" + std::to_string(size);
    if ((::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tiny", at.c_str(), "tmpfs", 0, options.c_str()) != 0) {
      return cannot_mount;
    }
    return body(at);
  });
  const int status = child.wait();
  std::error_code ignored;
  std::filesystem::remove(at, ignored);
  if (status == cannot_mount) return std::nullopt;
  return status;
}

}  // namespace support
