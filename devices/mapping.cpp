// SPDX-License-Identifier: Apache-2.0
#include <devices/mapping.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

namespace dibs {
namespace {

// Of this machine, a multiple of page_size.
std::uintptr_t page_mask() noexcept { return static_cast<std::uintptr_t>(::getpagesize()) - 1; }

int advise(std::uintptr_t begin, std::uintptr_t end, int advice) noexcept {
  const int saved = errno;
  int code = 0;
  do {
    code = ::madvise(reinterpret_cast<void*>(begin), end - begin, advice) == 0 ? 0 : errno;
  } while (code == EINTR);
  errno = saved;
  return code;
}

}  // namespace

mapping::~mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

result<mapping> mapping::map(int fd, std::size_t size, std::uint64_t offset, bool writable,
                             void* over) noexcept {
  void* at =
      ::mmap(over, size, writable ? PROT_READ | PROT_WRITE : PROT_READ,
             over == nullptr ? MAP_SHARED : MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(offset));
  if (at == MAP_FAILED) return last_error();
  return mapping(static_cast<std::byte*>(at), size);
}

error_code reserve(int fd, std::uint64_t offset, std::uint64_t size) noexcept {
  int code = 0;
  do {
    code =
        ::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(size)) == 0 ? 0 : errno;
  } while (code == EINTR);
  if (code == 0) return {};
  return code == ENOSPC ? make_error_code(errc::fabric_full) : system_error(code);
}

error_code reserve(std::span<std::byte> mapped) noexcept {
  const auto begin = reinterpret_cast<std::uintptr_t>(mapped.data());
  const std::uintptr_t mask = page_mask();
  const int code =
      advise(begin & ~mask, (begin + mapped.size() + mask) & ~mask, MADV_POPULATE_WRITE);
  if (code == 0) return {};
  // Touching it would be SIGBUS.
  return code == EFAULT ? make_error_code(errc::fabric_full) : system_error(code);
}

void give_back(std::span<std::byte> mapped) noexcept {
  const auto begin = reinterpret_cast<std::uintptr_t>(mapped.data());
  const std::uintptr_t mask = page_mask();
  const std::uintptr_t first = (begin + mask) & ~mask;
  const std::uintptr_t end = (begin + mapped.size()) & ~mask;
  // Locked memory stays, which is no harm.
  if (first < end) static_cast<void>(advise(first, end, MADV_REMOVE));
}

void fill_random(void* to, std::size_t size) noexcept {
  auto* bytes = static_cast<unsigned char*>(to);
  while (size > 0) {
    const ssize_t n = ::getrandom(bytes, size, 0);
    if (n < 0) continue;  // EINTR: the only failure for small requests
    bytes += n;
    size -= static_cast<std::size_t>(n);
  }
}

std::uint64_t random_number() noexcept {
  std::uint64_t value = 0;
  while (value == 0) fill_random(&value, sizeof value);
  return value;
}

}  // namespace dibs
