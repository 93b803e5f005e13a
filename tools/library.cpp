// SPDX-License-Identifier: Apache-2.0
#include <tools/library.hpp>

#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>

namespace tools {
namespace {

constexpr const char* library_name = "libdibsock-preload.so";

bool is_readable(const std::string& path) noexcept { return ::access(path.c_str(), R_OK) == 0; }

}  // namespace

std::string directory_of_this_program() {
  std::array<char, PATH_MAX> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (size <= 0) return ".";
  const std::string_view whole(path.data(), static_cast<std::size_t>(size));
  return std::string(whole.substr(0, whole.find_last_of('/')));
}

std::string find_library() {
  if (const char* named = std::getenv("DIBSOCK_PRELOAD"); named != nullptr && *named != '\0') {
    if (is_readable(named)) return named;
    throw std::runtime_error(std::string("DIBSOCK_PRELOAD names '") + named +
                             "': " + std::strerror(errno));
  }
  const std::string beside = directory_of_this_program();
  for (const std::string& directory :
       {beside, beside + "/../lib", beside + "/../lib/" DIBSOCK_MULTIARCH, beside + "/../lib64",
        std::string("/usr/local/lib"), std::string("/usr/local/lib/" DIBSOCK_MULTIARCH),
        std::string("/usr/lib/" DIBSOCK_MULTIARCH), std::string("/usr/lib")}) {
    std::string path = directory + "/" + library_name;
    if (is_readable(path)) return path;
  }
  throw std::runtime_error(std::string(library_name) +
                           " is neither beside this program nor in "
                           "/usr/local/lib nor in /usr/lib; DIBSOCK_PRELOAD can name it");
}

}  // namespace tools
