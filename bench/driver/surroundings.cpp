// SPDX-License-Identifier: Apache-2.0
// What the machine has and does besides us.
#include <driver/machine.hpp>

#include <arpa/inet.h>
#include <glob.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <system_error>

namespace bench {
namespace {

std::string make_path() {
  const char* given = std::getenv("PATH");
  std::string made(given != nullptr ? given : "/usr/local/bin:/usr/bin:/bin");
  made += ":/usr/sbin:/sbin";
  // Debian keeps the programs of this server apart from all others.
  glob_t found{};
  if (::glob("/usr/lib/postgresql/*/bin", 0, nullptr, &found) == 0) {
    made += std::string(":") + found.gl_pathv[found.gl_pathc - 1];
  }
  ::globfree(&found);
  return made;
}

}  // namespace

const std::string& program_path() {
  static const std::string path = make_path();
  return path;
}

std::string find_program(const std::string& name) {
  std::istringstream directories(program_path());
  for (std::string directory; std::getline(directories, directory, ':');) {
    std::string path = directory + "/" + name;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  auto* address = reinterpret_cast<sockaddr*>(&at);
  const bool is_bound = ::bind(fd, address, size) == 0 && ::getsockname(fd, address, &size) == 0;
  const int error = errno;
  ::close(fd);
  if (!is_bound) throw std::system_error(error, std::system_category(), "bind");
  return ntohs(at.sin_port);
}

bool is_listening(const std::string& where) {
  const bool is_path = where.starts_with('/');
  std::ifstream from(is_path ? "/proc/net/unix" : "/proc/net/tcp");
  for (std::string line; std::getline(from, line);) {
    std::istringstream fields(line);
    std::string word[8];
    for (std::string& one : word) fields >> one;
    if (is_path) {
      // Num RefCount Protocol Flags Type St Inode Path
      if (word[7] == where && word[3] == "00010000") return true;
    } else if (word[3] == "0A") {
      // sl local_address rem_address st
      const std::string port = word[1].substr(word[1].find(':') + 1);
      if (std::strtoul(port.c_str(), nullptr, 16) == std::stoul(where)) return true;
    }
  }
  return false;
}

std::uint64_t lo_bytes() {
  std::ifstream from("/proc/net/dev");
  for (std::string line; std::getline(from, line);) {
    std::istringstream fields(line);
    std::string name;
    std::uint64_t bytes = 0;
    if (fields >> name >> bytes && name == "lo:") return bytes;
  }
  return 0;
}

}  // namespace bench
