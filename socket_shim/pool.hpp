// SPDX-License-Identifier: Apache-2.0
#pragma once
// Objects whose memory is never given back to anybody else: a pointer that a
// thread read from the fd table a moment ago still points to an object of its
// type. Pages come from the kernel, never from the program's malloc. No lock:
// a signal handler may leave at any point.

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace shim {

// T has a member `std::atomic<T*> next_free`.
template <class T>
class pool {
 public:
  // A default-constructed object, or one that was given back, as it was left.
  // Null without memory.
  [[nodiscard]] T* take() noexcept {
    std::uint64_t seen = free_.load(std::memory_order_acquire);
    for (;;) {
      T* first = object_of(seen);
      if (first == nullptr) return grow();
      // Perhaps taken by now and in use; then the exchange fails.
      T* next = first->next_free.load(std::memory_order_relaxed);
      if (free_.compare_exchange_weak(seen, packed(next, seen), std::memory_order_acq_rel)) {
        return first;
      }
    }
  }

  void give_back(T* what) noexcept {
    std::uint64_t seen = free_.load(std::memory_order_relaxed);
    do {
      what->next_free.store(object_of(seen), std::memory_order_relaxed);
    } while (!free_.compare_exchange_weak(seen, packed(what, seen), std::memory_order_acq_rel));
  }

 private:
  static constexpr std::size_t chunk = sizeof(T) <= 4096 ? 64 : 2;  // all of it is touched
  static constexpr unsigned address_bits = 48;  // of user space, x86-64 and arm64

  // The first free object and, above it, how often that changed: an object that
  // was taken and given back meanwhile does not look as if nothing happened.
  static std::uint64_t packed(T* first, std::uint64_t before) noexcept {
    const std::uint64_t turn = (before >> address_bits) + 1;
    return turn << address_bits | reinterpret_cast<std::uint64_t>(first);
  }
  static T* object_of(std::uint64_t word) noexcept {
    return reinterpret_cast<T*>(word & ((std::uint64_t{1} << address_bits) - 1));
  }

  T* grow() noexcept {
    void* memory = ::mmap(nullptr, chunk * sizeof(T), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    T* first = new (memory) T;
    for (std::size_t i = 1; i < chunk; ++i) {
      give_back(new (static_cast<std::byte*>(memory) + i * sizeof(T)) T);
    }
    return first;
  }

  std::atomic<std::uint64_t> free_{0};
};

}  // namespace shim
