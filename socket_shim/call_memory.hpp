// SPDX-License-Identifier: Apache-2.0
#pragma once
// Memory for the time of one call, never from the program's malloc.

#include <sys/mman.h>

#include <array>
#include <cstddef>

namespace shim {

// On the stack for the usual few, from the kernel for many. Not initialised.
template <class T, std::size_t few>
class call_memory {
 public:
  explicit call_memory(std::size_t count) noexcept : size_(count * sizeof(T)) {
    if (count <= few) return;
    void* pages =
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    many_ = pages == MAP_FAILED ? nullptr : static_cast<T*>(pages);
    failed_ = many_ == nullptr;
  }
  call_memory(const call_memory&) = delete;
  call_memory& operator=(const call_memory&) = delete;
  ~call_memory() {
    if (many_ != nullptr) ::munmap(many_, size_);
  }
  [[nodiscard]] T* get() noexcept {
    return failed_ ? nullptr : many_ != nullptr ? many_ : few_.data();
  }

 private:
  std::array<T, few> few_;
  T* many_ = nullptr;
  std::size_t size_;
  bool failed_ = false;
};

}  // namespace shim
