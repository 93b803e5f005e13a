// SPDX-License-Identifier: Apache-2.0
#include <devices/fabric.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace dibs {
namespace {

[[gnu::format(printf, 1, 2)]] fabric::path_text path(const char* format, ...) noexcept {
  fabric::path_text text{};
  std::va_list arguments;
  va_start(arguments, format);
  const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
  va_end(arguments);
  if (length < 0 || static_cast<std::size_t>(length) >= text.size()) text = {};
  return text;
}

// Room that the longest file name of the fabric needs behind the directory.
constexpr std::size_t longest_name = 1 + 32 + 1 + 32 + sizeof ".dmb";

// From the first to the second system call of create_home, seconds.
constexpr std::time_t making_takes_at_most = 10;

unique_fd open_directory(const char* directory) noexcept {
  return unique_fd(::open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

// Calls visit(name) for every entry. getdents64 into a buffer of our own: no
// allocation, since this runs inside programs that we do not know.
template <class Visit>
void for_each_name(const char* directory, Visit visit) noexcept {
  const unique_fd open = open_directory(directory);
  if (!open.is_open()) return;
  alignas(dirent64) std::array<char, 16384> buffer;
  for (;;) {
    const ssize_t size = ::getdents64(open.get(), buffer.data(), buffer.size());
    if (size <= 0) return;
    for (ssize_t at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      visit(entry->d_name);
      at += entry->d_reclen;
    }
  }
}

}  // namespace

result<fabric> fabric::open(std::string_view directory) noexcept {
  fabric opened;
  const bool is_default = directory.empty();
  opened.directory_ = is_default
                          ? path("/dev/shm/dibs-%u", static_cast<unsigned>(::geteuid()))
                          : path("%.*s", static_cast<int>(directory.size()), directory.data());
  const std::size_t length = std::strlen(opened.directory());
  if (length == 0 || length + longest_name >= max_path)
    return make_error_code(errc::fabric_unusable);
  if (::mkdir(opened.directory(), 0700) != 0 && errno != EEXIST) return last_error();
  struct stat status {};
  if (::lstat(opened.directory(), &status) != 0) return last_error();
  // The default name lies in a directory that everybody may write to: what
  // stands there must be ours alone.
  if (is_default &&
      (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & 077) != 0)) {
    return make_error_code(errc::fabric_unusable);
  }
  if (::access(opened.directory(), R_OK | W_OK | X_OK) != 0) return last_error();
  return opened;
}

fabric::path_text fabric::rendezvous_path() const noexcept {
  return path("%s/rendezvous", directory());
}
fabric::path_text fabric::home_path(const gid& id) const noexcept {
  return path("%s/%s.home", directory(), to_text(id).data());
}
fabric::path_text fabric::events_path(const gid& id) const noexcept {
  return path("%s/%s.events", directory(), to_text(id).data());
}
fabric::path_text fabric::bell_path(const gid& id, unsigned queue) const noexcept {
  return path("%s/%s.bell.%u", directory(), to_text(id).data(), queue);
}
fabric::path_text fabric::dmb_path(const gid& owner, const gid& writer) const noexcept {
  return path("%s/%s.%s.dmb", directory(), to_text(owner).data(), to_text(writer).data());
}

result<fabric::home_file> fabric::create_home(const gid& id, std::size_t size,
                                              std::size_t reserved) const noexcept {
  const auto name = home_path(id);
  unique_fd file;
  for (struct stat status{}; status.st_nlink == 0;) {
    file.reset(::open(name.data(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.is_open()) return last_error();
    // is_alive() of others may hold the lock for a moment.
    while (::flock(file.get(), LOCK_EX) != 0) {
      if (errno != EINTR) return last_error();
    }
    // Removed before it was locked? Then again.
    if (::fstat(file.get(), &status) != 0) return last_error();
  }
  error_code failure = reserve(file.get(), 0, reserved);
  if (!failure && ::ftruncate(file.get(), static_cast<off_t>(size)) != 0) failure = last_error();
  if (!failure) {
    result<mapping> memory = mapping::map(file.get(), size);
    if (memory) return home_file{std::move(file), std::move(*memory)};
    failure = memory.error();
  }
  ::unlink(name.data());
  return failure;
}

bool fabric::is_alive(const gid& id) const noexcept {
  const unique_fd file(::open(home_path(id).data(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return false;
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return true;
  // Empty: its maker has yet to lock it, or was killed in that moment.
  struct stat status {};
  return ::fstat(file.get(), &status) == 0 && status.st_size == 0 &&
         ::time(nullptr) - status.st_mtime < making_takes_at_most;
}

void fabric::for_each_home(home_visitor visit, void* context) const noexcept {
  for_each_name(directory(), [&](const char* name) noexcept {
    if (std::strlen(name) == 32 + 5 && std::strcmp(name + 32, ".home") == 0) {
      const gid id = gid_from_text(name);
      if (!id.is_none()) visit(context, id);
    }
  });
}

void fabric::remove_device(const gid& id) const noexcept {
  const gid_text owner = to_text(id);
  // The home goes last: while it stands, an interrupted removal is repeated.
  for_each_name(directory(), [&](const char* name) noexcept {
    if (std::strncmp(name, owner.data(), 32) == 0 && std::strcmp(name + 32, ".home") != 0) {
      ::unlink(path("%s/%s", directory(), name).data());
    }
  });
  ::unlink(home_path(id).data());
}

void fabric::remove_strays() const noexcept {
  for_each_name(directory(), [&](const char* name) noexcept {
    if (std::strlen(name) <= 33 || name[32] != '.') return;
    const gid id = gid_from_text(name);
    // A home is made before everything else of its device, and goes last.
    if (!id.is_none() && ::access(home_path(id).data(), F_OK) != 0 && errno == ENOENT) {
      ::unlink(path("%s/%s", directory(), name).data());
    }
  });
}

}  // namespace dibs
