// SPDX-License-Identifier: Apache-2.0
#pragma once
// TCP that the kernel carries past its TCP stack, from socket to socket, for
// the processes of one cgroup (sockmap/sockmap.bpf.c).

#include <filesystem>
#include <memory>

namespace bench {

class sockmap {
 public:
  // From the compiled program. Throws std::runtime_error, which says why not.
  explicit sockmap(const std::filesystem::path& object);
  sockmap(const sockmap&) = delete;
  sockmap& operator=(const sockmap&) = delete;
  ~sockmap();  // no process may be left in the group

  // A process is in it that wrote 0 into this file, and its children are.
  [[nodiscard]] std::filesystem::path members() const;

 private:
  struct loaded;
  std::unique_ptr<loaded> loaded_;
  std::filesystem::path group_;
};

}  // namespace bench
