// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/inheritance.hpp>

#include <socket_shim/meet.hpp>

#include <dlfcn.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace shim {
namespace {

// DIBSOCK_INHERITED=<pid> {<fd>c|s<cookie> }=<program>
constexpr char variable[] = "DIBSOCK_INHERITED";
constexpr std::size_t variable_size = sizeof variable - 1;

bool is_ours(const char* entry) noexcept {
  return std::strncmp(entry, variable, variable_size) == 0 && entry[variable_size] == '=';
}

// The last part of a path.
const char* name_in(const char* path) noexcept {
  const char* slash = std::strrchr(path, '/');
  return slash != nullptr ? slash + 1 : path;
}

// Was this program begun by the very exec that was meant? Another one in between,
// without the library, may have left the variable alone and let others have the
// sockets. That one had another name.
bool is_meant(long pid, const char* program) noexcept {
  const auto* begun = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
  if (pid != ::getpid() || begun == nullptr) return false;
  return std::strcmp(begun, program) == 0 ||
         (std::strchr(program, '/') == nullptr && std::strcmp(name_in(begun), program) == 0);
}

}  // namespace

bool inheritance::is_possible() const noexcept {
  Dl_info self{};
  if (program_ == nullptr || environment_ == nullptr ||
      ::dladdr(reinterpret_cast<void*>(&take_inheritance), &self) == 0) {
    return false;
  }
  for (char* const* at = environment_; *at != nullptr; ++at) {
    if (std::strncmp(*at, "LD_PRELOAD=", 11) == 0) {
      return std::strstr(*at, name_in(self.dli_fname)) != nullptr;
    }
  }
  return false;
}

void inheritance::add(int fd, smcd::handshake_role role, std::uint64_t cookie) noexcept {
  std::size_t begun = used_;
  if (begun == 0) {
    begun = static_cast<std::size_t>(std::snprintf(text_.data(), text_.size(), "%s=%d ", variable,
                                                   static_cast<int>(::getpid())));
  }
  const std::size_t room = text_.size() - begun;
  const int size = std::snprintf(text_.data() + begun, room, "%d%c%llx ", fd,
                                 role == smcd::handshake_role::client ? 'c' : 's',
                                 static_cast<unsigned long long>(cookie));
  const std::size_t end = begun + static_cast<std::size_t>(size);
  if (end + std::strlen(program_) + sizeof "=" <= text_.size()) used_ = end;
}

std::size_t inheritance::size() const noexcept {
  if (used_ == 0) return 0;
  std::size_t count = 2;
  for (char* const* at = environment_; *at != nullptr; ++at) ++count;
  return count;
}

void inheritance::fill(char** to) noexcept {
  std::snprintf(text_.data() + used_, text_.size() - used_, "=%s", program_);
  *to++ = text_.data();
  for (char* const* at = environment_; *at != nullptr; ++at) {
    if (!is_ours(*at)) *to++ = *at;
  }
  *to = nullptr;
}

void take_inheritance() noexcept {
  const char* text = std::getenv(variable);
  if (text == nullptr) return;
  const char* program = std::strchr(text, '=');
  char* at = nullptr;
  const long pid = std::strtol(text, &at, 10);
  if (program != nullptr && is_meant(pid, program + 1)) {
    while (*at == ' ' && at[1] != '=') {
      const auto fd = static_cast<int>(std::strtol(at + 1, &at, 10));
      if (*at != 'c' && *at != 's') break;
      const auto role = *at == 'c' ? smcd::handshake_role::client : smcd::handshake_role::server;
      resume_stream(fd, role, std::strtoull(at + 1, &at, 16));
    }
  }
  ::unsetenv(variable);
}

}  // namespace shim
