// SPDX-License-Identifier: Apache-2.0
#pragma once
// Memory shared through a file: an owned mapping, and the rule that a page of
// a tmpfs file is reserved before it is first touched (a full tmpfs is then an
// error code and never SIGBUS).

#include <devices/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace dibs {

inline constexpr std::size_t page_size = 4096;
inline constexpr std::size_t cache_line = 64;

// An owned MAP_SHARED mapping. The mapping keeps the open file description
// alive, and with it a flock taken through that descriptor.
class mapping {
 public:
  mapping() noexcept = default;
  mapping(mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapping& operator=(mapping&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapping();

  // Requires offset to be a multiple of page_size. The file may be shorter
  // than offset + size; what lies beyond its end must not be touched. `over`
  // names a former mapping of that size to be replaced in place, or is null.
  [[nodiscard]] static result<mapping> map(int fd, std::size_t size, std::uint64_t offset = 0,
                                           bool writable = true, void* over = nullptr) noexcept;

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool is_mapped() const noexcept { return data_ != nullptr; }
  template <class T>
  [[nodiscard]] T* at(std::size_t offset) const noexcept {
    return reinterpret_cast<T*>(data_ + offset);
  }
  // Gives the memory away: it stays mapped for the life of the process.
  std::byte* release() noexcept {
    size_ = 0;
    return std::exchange(data_, nullptr);
  }

 private:
  mapping(std::byte* data, std::size_t size) noexcept : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Makes sure that the file has memory behind [offset, offset + size) and is at
// least that long. errc::fabric_full if the tmpfs has no room.
[[nodiscard]] error_code reserve(int fd, std::uint64_t offset, std::uint64_t size) noexcept;

// The same for a part of a writable mapping, which must not reach beyond the end
// of its file. What stands there stays. errno is left alone.
[[nodiscard]] error_code reserve(std::span<std::byte> mapped) noexcept;
// The opposite: the pages that lie wholly in that part lose their memory, in the
// file, for all who mapped it. They are to be reserved before they are touched.
// errno is left alone.
void give_back(std::span<std::byte> mapped) noexcept;

// Cryptographically random bytes; 64 of them as a number that is not zero.
void fill_random(void* to, std::size_t size) noexcept;
[[nodiscard]] std::uint64_t random_number() noexcept;

}  // namespace dibs
