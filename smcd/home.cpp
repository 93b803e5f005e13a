// SPDX-License-Identifier: Apache-2.0
#include <smcd/home.hpp>

#include <devices/chaos.hpp>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <new>
#include <type_traits>

namespace smcd {
namespace {

constexpr std::uint64_t magic = 0x3330454D4F484444;  // "DDHOME03"
constexpr std::size_t home_size = dibs::page_size + std::size_t{home::max_ends} * home::slot_size;
constexpr std::size_t slots_per_page = dibs::page_size / home::slot_size;
static_assert(sizeof(home_header) <= dibs::page_size);
static_assert(home::max_ends / slots_per_page <= 64 * 64);
static_assert(std::is_trivially_destructible_v<end_state>);

constexpr std::size_t offset_of(std::uint32_t index) noexcept {
  return dibs::page_size + std::size_t{index} * home::slot_size;
}

bool is_reserved(const home_header& head, std::size_t page) noexcept {
  return head.reserved_pages[page / 64].load(std::memory_order_acquire) >> page % 64 & 1;
}

}  // namespace

error_code home::create(home& made, const dibs::fabric& in, const dibs::gid& id,
                        dibs::fabric_id chid) noexcept {
  result<dibs::fabric::home_file> file = in.create_home(id, home_size, dibs::page_size);
  if (!file) return file.error();
  made.path_ = in.home_path(id);
  made.memory_ = std::move(file->memory);
  home_header& head = made.head();
  head.device = id;
  head.chid = chid;
  head.pid = static_cast<std::uint32_t>(::getpid());
  head.uid = static_cast<std::uint32_t>(::geteuid());
  ::prctl(PR_GET_NAME, head.command.data());
  head.magic.store(magic, std::memory_order_release);
  return {};
}

bool home::reserve_page(std::size_t page) noexcept {
  if (is_reserved(head(), page)) return true;
  const dibs::unique_fd file(::open(path_.data(), O_RDWR | O_CLOEXEC));
  if (!file.is_open() ||
      dibs::reserve(file.get(), dibs::page_size + page * dibs::page_size, dibs::page_size)) {
    return false;
  }
  head().reserved_pages[page / 64].fetch_or(std::uint64_t{1} << page % 64,
                                            std::memory_order_acq_rel);
  return true;
}

end_state* home::claim() noexcept {
  if (dibs::chaos::one_in(32)) return nullptr;
  const std::uint32_t start = hint_.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < max_ends; ++i) {
    const std::uint32_t index = (start + i) % max_ends;
    if (!reserve_page(index / slots_per_page)) return nullptr;
    auto* end = memory_.at<end_state>(offset_of(index));
    std::uint32_t free = 0;
    if (end->in_use.load(std::memory_order_relaxed) != 0 ||
        !end->in_use.compare_exchange_strong(free, 2, std::memory_order_acquire)) {
      continue;
    }
    hint_.store(index + 1, std::memory_order_relaxed);
    // Everything behind the first word; readers still see a slot in the making.
    std::memset(static_cast<void*>(&end->in_use + 1), 0, sizeof(end_state) - sizeof end->in_use);
    std::uint32_t known = head().ends.load(std::memory_order_relaxed);
    while (known <= index && !head().ends.compare_exchange_weak(known, index + 1)) {
    }
    end->in_use.store(1, std::memory_order_release);
    return end;
  }
  return nullptr;
}

void home::release(end_state* end) noexcept {
  // Slots are used again lowest first: their pages are warm.
  const std::uint32_t index = index_of(end);
  if (index < hint_.load(std::memory_order_relaxed)) hint_.store(index, std::memory_order_relaxed);
  end->in_use.store(0, std::memory_order_release);
}

std::uint32_t home::index_of(const end_state* end) const noexcept {
  const auto offset = reinterpret_cast<const std::byte*>(end) - memory_.data();
  return static_cast<std::uint32_t>((static_cast<std::size_t>(offset) - dibs::page_size) /
                                    slot_size);
}

result<home_reader> home_reader::open(const dibs::fabric& in, const dibs::gid& id) noexcept {
  const dibs::unique_fd file(::open(in.home_path(id).data(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return dibs::last_error();
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return dibs::last_error();
  if (static_cast<std::size_t>(status.st_size) != home_size) {
    return make_error_code(dibs::errc::fabric_unusable);
  }
  result<dibs::mapping> memory = dibs::mapping::map(file.get(), home_size, 0, false);
  if (!memory) return memory.error();
  home_reader opened;
  opened.memory_ = std::move(*memory);
  if (opened.head().magic.load(std::memory_order_acquire) != magic) {
    return make_error_code(dibs::errc::fabric_unusable);
  }
  return opened;
}

const end_state* home_reader::at(std::uint32_t index) const noexcept {
  if (!is_reserved(head(), index / slots_per_page)) return nullptr;
  const auto* end = memory_.at<const end_state>(offset_of(index));
  return end->in_use.load(std::memory_order_acquire) == 1 ? end : nullptr;
}

}  // namespace smcd
