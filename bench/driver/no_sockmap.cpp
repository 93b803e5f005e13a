// SPDX-License-Identifier: Apache-2.0
// In place of sockmap.cpp, where there is no libbpf or nothing to compile for it.
#include <driver/sockmap.hpp>

#include <stdexcept>

namespace bench {

struct sockmap::loaded {};

sockmap::sockmap(const std::filesystem::path&) {
  throw std::runtime_error("built without libbpf or clang");
}
sockmap::~sockmap() = default;
std::filesystem::path sockmap::members() const { return {}; }

}  // namespace bench
