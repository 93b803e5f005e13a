// SPDX-License-Identifier: Apache-2.0
#include <tools/program.hpp>

#include <devices/unique_fd.hpp>

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>

namespace tools {
namespace {

// As many steps from script to interpreter as Linux goes.
constexpr int max_scripts = 5;
// As much of a first line as Linux looks at.
constexpr std::size_t first_line_size = 256;

struct elf_facts {
  bool is_elf = false;
  unsigned char width = 0;  // EI_CLASS
  unsigned char order = 0;  // EI_DATA
  unsigned machine = 0;
  std::string linker;  // of PT_INTERP; empty: there is none
};

template <class T>
bool read_at(int fd, std::uint64_t offset, T& to) noexcept {
  return ::pread(fd, &to, sizeof to, static_cast<off_t>(offset)) == static_cast<ssize_t>(sizeof to);
}

// The path in the segment PT_INTERP; false if the headers make no sense.
bool read_linker(int fd, const ElfW(Ehdr) & header, std::string& linker) {
  if (header.e_phentsize != sizeof(ElfW(Phdr))) return false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    ElfW(Phdr) segment{};
    if (!read_at(fd, header.e_phoff + i * sizeof segment, segment)) return false;
    if (segment.p_type != PT_INTERP) continue;
    std::array<char, 4096> path{};
    if (segment.p_filesz == 0 || segment.p_filesz >= path.size()) return false;
    if (::pread(fd, path.data(), segment.p_filesz, static_cast<off_t>(segment.p_offset)) !=
        static_cast<ssize_t>(segment.p_filesz)) {
      return false;
    }
    linker = path.data();
    return true;
  }
  linker.clear();
  return true;
}

elf_facts read_elf(const std::string& path) {
  elf_facts facts;
  const dibs::unique_fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  // Class and machine stand at the same place in both classes.
  ElfW(Ehdr) header{};
  if (!file.is_open() || !read_at(file.get(), 0, header) ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return facts;
  }
  facts.width = header.e_ident[EI_CLASS];
  facts.order = header.e_ident[EI_DATA];
  facts.machine = header.e_machine;
  constexpr unsigned char own_width = sizeof(void*) == 8 ? ELFCLASS64 : ELFCLASS32;
  facts.is_elf = facts.width != own_width || read_linker(file.get(), header, facts.linker);
  return facts;
}

// The interpreter that the first line of a script names, or empty.
std::string read_interpreter(const std::string& path) {
  const dibs::unique_fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, first_line_size> start{};
  if (!file.is_open() || ::pread(file.get(), start.data(), start.size(), 0) < 2) return {};
  std::string_view line(start.data(), start.size());
  line = line.substr(0, line.find_first_of(std::string_view("\n\0", 2)));
  if (!line.starts_with("#!")) return {};
  line.remove_prefix(2);
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  return std::string(line.substr(0, line.find_first_of(" \t")));
}

std::string_view name_of(std::string_view path) noexcept {
  return path.substr(path.find_last_of('/') + 1);  // npos + 1 is 0
}

// Will exec give the process more rights than it has, so that the dynamic
// linker distrusts the environment? Linux asks for the real ids.
obstacle gain_of_rights(const std::string& path) noexcept {
  struct stat status {};
  struct statvfs mount {};
  if (::stat(path.c_str(), &status) != 0) return obstacle::none;
  const bool is_ignored = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ||
                          (::statvfs(path.c_str(), &mount) == 0 && (mount.f_flag & ST_NOSUID) != 0);
  if (is_ignored) return obstacle::none;
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != ::getuid()) return obstacle::set_uid;
  // Without the right to execute, the bit once meant mandatory locks.
  if ((status.st_mode & S_ISGID) != 0 && (status.st_mode & S_IXGRP) != 0 &&
      status.st_gid != ::getgid()) {
    return obstacle::set_gid;
  }
  if (::getuid() != 0 && ::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0) {
    return obstacle::capabilities;
  }
  return obstacle::none;
}

obstacle look_at(const std::string& path) {
  const elf_facts facts = read_elf(path);
  if (!facts.is_elf) return obstacle::none;
  static const elf_facts own = read_elf("/proc/self/exe");
  if (facts.width != own.width) return obstacle::other_class;
  if (facts.machine != own.machine || facts.order != own.order) return obstacle::other_machine;
  if (facts.linker.empty()) return obstacle::static_program;
  if (name_of(facts.linker) != name_of(own.linker)) return obstacle::other_libc;
  return gain_of_rights(path);
}

}  // namespace

std::optional<std::string> find_in_path(const std::string& command) {
  const auto is_program = [](const std::string& path) noexcept {
    struct stat status {};
    return ::access(path.c_str(), X_OK) == 0 && ::stat(path.c_str(), &status) == 0 &&
           S_ISREG(status.st_mode);
  };
  if (command.find('/') != std::string::npos) {
    return is_program(command) ? std::optional(command) : std::nullopt;
  }
  const char* variable = std::getenv("PATH");
  std::string_view rest = variable != nullptr ? variable : "/bin:/usr/bin";
  for (;;) {
    const std::size_t colon = rest.find(':');
    const std::string_view directory = rest.substr(0, colon);
    std::string path = directory.empty() ? "./" : std::string(directory) + "/";
    path += command;
    if (is_program(path)) return path;
    if (colon == std::string_view::npos) return std::nullopt;
    rest.remove_prefix(colon + 1);
  }
}

program inspect(const std::string& path) {
  program found;
  found.file = path;
  for (int i = 0; i < max_scripts; ++i) {
    std::string interpreter = read_interpreter(found.file);
    if (interpreter.empty()) break;
    found.script = std::move(found.file);
    found.file = std::move(interpreter);
  }
  found.why_not = look_at(found.file);
  return found;
}

std::string_view to_text(obstacle why) noexcept {
  switch (why) {
    case obstacle::none: return "can be reached";
    case obstacle::static_program: return "is statically linked";
    case obstacle::other_class: return "is of another word size (32 or 64 bit)";
    case obstacle::other_machine: return "is made for another machine";
    case obstacle::other_libc: return "uses another C library";
    case obstacle::set_uid: return "is set-uid";
    case obstacle::set_gid: return "is set-gid";
    case obstacle::capabilities: return "has file capabilities";
  }
  return "is unknown";
}

}  // namespace tools
