// SPDX-License-Identifier: Apache-2.0
#include <driver/sockmap.hpp>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace bench {
namespace {

// Where the unified hierarchy of cgroups is.
std::filesystem::path find_groups() {
  std::ifstream mounts("/proc/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string device;
    std::string directory;
    std::string type;
    if (fields >> device >> directory >> type && type == "cgroup2") return directory;
  }
  throw std::runtime_error("there are no cgroups of version 2");
}

[[noreturn]] void refuse(const char* what, int error) {
  throw std::runtime_error(std::string(what) + " is not permitted here: " + std::strerror(error));
}

}  // namespace

struct sockmap::loaded {
  bpf_object* object = nullptr;
  int group = -1;
  ~loaded() {
    if (group >= 0) ::close(group);  // the programs leave with the group
    bpf_object__close(object);
  }
};

sockmap::sockmap(const std::filesystem::path& object) : loaded_(std::make_unique<loaded>()) {
  libbpf_set_print([](libbpf_print_level, const char*, va_list) { return 0; });
  if (::access(object.c_str(), R_OK) != 0) {
    throw std::runtime_error(object.filename().native() + " was not built");
  }
  loaded_->object = bpf_object__open(object.c_str());
  if (loaded_->object == nullptr || bpf_object__load(loaded_->object) != 0) refuse("eBPF", errno);
  const auto program = [this](const char* name) {
    return bpf_program__fd(bpf_object__find_program_by_name(loaded_->object, name));
  };
  const int connections = bpf_object__find_map_fd_by_name(loaded_->object, "connections");
  if (bpf_prog_attach(program("pass_over"), connections, BPF_SK_MSG_VERDICT, 0) != 0) {
    refuse("a sockmap", errno);
  }
  const std::filesystem::path group =
      find_groups() / ("dibsock-bench-" + std::to_string(::getpid()));
  std::error_code failure;
  std::filesystem::create_directory(group, failure);
  if (failure) refuse("a cgroup", failure.value());
  group_ = group;
  loaded_->group = ::open(group.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (loaded_->group < 0 ||
      bpf_prog_attach(program("remember"), loaded_->group, BPF_CGROUP_SOCK_OPS, 0) != 0) {
    const int error = errno;
    ::rmdir(group.c_str());
    refuse("a program for a cgroup", error);
  }
}

sockmap::~sockmap() { ::rmdir(group_.c_str()); }

std::filesystem::path sockmap::members() const { return group_ / "cgroup.procs"; }

}  // namespace bench
