// SPDX-License-Identifier: Apache-2.0
#pragma once
// Objects whose memory is never given back to anybody else: a pointer that a
// thread read from the fd table a moment ago still points to an object of its
// type. Pages come from the kernel, never from the program's malloc.

#include <devices/lock.hpp>

#include <sys/mman.h>

#include <cstddef>
#include <new>

namespace shim {

// T has a member `T* next_free`.
template <class T>
class pool {
 public:
  // A default-constructed object, or one that was given back, as it was left.
  // Null without memory, or inside a signal handler that met its own thread.
  [[nodiscard]] T* take() noexcept {
    const dibs::lock_guard guard(lock_);
    if (guard.is_nested()) return nullptr;
    if (free_ == nullptr && !grow()) return nullptr;
    T* taken = free_;
    free_ = taken->next_free;
    return taken;
  }

  void give_back(T* what) noexcept {
    const dibs::lock_guard guard(lock_);
    if (guard.is_nested()) return;  // lost, but safe
    what->next_free = free_;
    free_ = what;
  }

 private:
  static constexpr std::size_t chunk = 64;

  bool grow() noexcept {
    void* memory = ::mmap(nullptr, chunk * sizeof(T), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    for (std::size_t i = 0; i < chunk; ++i) {
      T* made = new (static_cast<std::byte*>(memory) + i * sizeof(T)) T;
      made->next_free = free_;
      free_ = made;
    }
    return true;
  }

  dibs::shared_lock lock_;
  T* free_ = nullptr;
};

}  // namespace shim
