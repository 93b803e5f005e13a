// SPDX-License-Identifier: Apache-2.0
#include <socket_shim/fd_table.hpp>

#include <sys/mman.h>

#include <algorithm>

namespace shim {

endpoint* fd_table::exchange(int fd, endpoint* what) noexcept {
  const auto number = static_cast<unsigned>(fd);
  if (number >= pages * page_entries) return nullptr;
  std::atomic<entry*>& page = pages_[number / page_entries];
  entry* entries = page.load(std::memory_order_acquire);
  if (entries == nullptr) {
    if (what == nullptr) return nullptr;
    void* memory = ::mmap(nullptr, page_entries * sizeof(entry), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return what;  // the caller cannot put it anywhere
    auto* fresh = static_cast<entry*>(memory);
    if (page.compare_exchange_strong(entries, fresh, std::memory_order_acq_rel)) {
      entries = fresh;
    } else {
      ::munmap(memory, page_entries * sizeof(entry));
    }
  }
  return entries[number % page_entries].exchange(what, std::memory_order_acq_rel);
}

int fd_table::next(unsigned first) const noexcept {
  for (unsigned page = first / page_entries; page < pages; ++page) {
    const entry* entries = pages_[page].load(std::memory_order_acquire);
    if (entries == nullptr) continue;
    for (unsigned at = std::max(first, static_cast<unsigned>(page * page_entries));
         at < (page + 1) * page_entries; ++at) {
      if (entries[at % page_entries].load(std::memory_order_relaxed) != nullptr) {
        return static_cast<int>(at);
      }
    }
  }
  return -1;
}

}  // namespace shim
