// SPDX-License-Identifier: Apache-2.0
#include <devices/segment.hpp>

#include <devices/chaos.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace dibs {
namespace {

constexpr std::uint64_t magic = 0x3230424D44424944;  // "DIBDMB02": name and layout version
constexpr std::uint32_t index_bits = 11;
constexpr std::size_t directory_size = 64 * 1024;
constexpr std::size_t cdc_size = 32;  // the peer's control record at the start of a DMB

bool is_size(std::uint32_t size) noexcept {
  const std::uint32_t least = chaos::is_on() ? chaos::min_dmb_size : min_dmb_size;
  return std::has_single_bit(size) && size >= least && size <= max_dmb_size;
}

constexpr std::uint32_t index_of(dmb_token token) noexcept {
  return static_cast<std::uint32_t>(token.value & ((1U << index_bits) - 1));
}

}  // namespace

struct segment::header {
  std::atomic<std::uint64_t> magic;    // stored last
  std::atomic<std::uint32_t> entries;  // [entries] entries before their count
};

dmb_entry& segment::entry(std::uint32_t index) const noexcept {
  return *directory_.at<dmb_entry>((index + 1) * sizeof(dmb_entry));
}

error_code segment::create(segment& made, const fabric& in, const gid& owner,
                           const gid& writer) noexcept {
  static_assert(sizeof(header) <= sizeof(dmb_entry));
  static_assert((max_entries + 1) * sizeof(dmb_entry) == directory_size);
  static_assert(max_entries < 1U << index_bits);
  made.path_ = in.dmb_path(owner, writer);
  const unique_fd file(::open(made.path_.data(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.is_open()) return last_error();
  struct stat status {};
  error_code failure = reserve(file.get(), 0, page_size);
  if (!failure &&
      (::ftruncate(file.get(), directory_size) != 0 || ::fstat(file.get(), &status) != 0)) {
    failure = last_error();
  }
  if (!failure) {
    result<mapping> memory = mapping::map(file.get(), directory_size);
    if (memory) {
      made.directory_ = std::move(*memory);
      made.is_owner_ = true;
      made.inode_ = status.st_ino;
      made.directory_.at<header>(0)->magic.store(magic, std::memory_order_release);
      return {};
    }
    failure = memory.error();
  }
  ::unlink(made.path_.data());
  return failure;
}

error_code segment::open(segment& opened, const fabric& in, const gid& owner,
                         const gid& writer) noexcept {
  opened.path_ = in.dmb_path(owner, writer);
  const unique_fd file(::open(opened.path_.data(), O_RDWR | O_CLOEXEC));
  if (!file.is_open()) return make_error_code(errc::unknown_gid);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return last_error();
  if (status.st_size < static_cast<off_t>(directory_size)) {
    return make_error_code(errc::fabric_unusable);
  }
  result<mapping> memory = mapping::map(file.get(), directory_size);
  if (!memory) return memory.error();
  if (memory->at<header>(0)->magic.load(std::memory_order_acquire) != magic) {
    return make_error_code(errc::fabric_unusable);
  }
  opened.directory_ = std::move(*memory);
  opened.inode_ = status.st_ino;
  opened.is_owner_ = false;
  return {};
}

void segment::close() noexcept {
  for (mapping& chunk : chunks_) chunk = mapping();
  uses_ = {};
  directory_ = mapping();
  if (is_owner_) ::unlink(path_.data());
}

// The segment's file, if it still is the one that we know.
result<unique_fd> segment::open_file() const noexcept {
  unique_fd file(::open(path_.data(), O_RDWR | O_CLOEXEC));
  struct stat status {};
  if (!file.is_open() || ::fstat(file.get(), &status) != 0) return last_error();
  if (status.st_ino != inode_) return make_error_code(errc::fabric_unusable);
  return file;
}

result<std::byte*> segment::map_chunk(std::uint32_t chunk) noexcept {
  if (!chunks_[chunk].is_mapped()) {
    result<unique_fd> file = open_file();
    if (!file) return file.error();
    const std::uint64_t at = directory_size + std::uint64_t{chunk} * chunk_size;
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return last_error();
    if (status.st_size < static_cast<off_t>(at + chunk_size)) {
      if (!is_owner_) return make_error_code(errc::bad_size);
      if (::ftruncate(file->get(), static_cast<off_t>(at + chunk_size)) != 0) return last_error();
    }
    result<mapping> memory = mapping::map(file->get(), chunk_size, at);
    if (!memory) return memory.error();
    chunks_[chunk] = std::move(*memory);
  }
  return chunks_[chunk].data();
}

result<dmb> segment::view(dmb_token token, std::uint64_t offset, std::uint32_t size) noexcept {
  if (!is_size(size) || offset < directory_size || (offset - directory_size) % size != 0 ||
      (offset - directory_size) / chunk_size >= max_chunks) {
    return make_error_code(errc::bad_size);
  }
  const auto chunk = static_cast<std::uint32_t>((offset - directory_size) / chunk_size);
  const result<std::byte*> memory = map_chunk(chunk);
  if (!memory) return memory.error();
  return dmb{token, {*memory + (offset - directory_size) % chunk_size, size}};
}

// ---- owner -----------------------------------------------------------------

// Makes one more DMB of that size, in a chunk that holds this size already or
// in a new one.
result<std::uint32_t> segment::add_entry(std::uint32_t size) noexcept {
  header& head = *directory_.at<header>(0);
  const std::uint32_t index = head.entries.load(std::memory_order_relaxed);
  if (index >= max_entries) return make_error_code(errc::no_dmb_left);
  std::uint32_t chunk = 0;
  while (chunk < max_chunks && uses_[chunk].size != 0 &&
         (uses_[chunk].size != size || uses_[chunk].made == chunk_size / size)) {
    ++chunk;
  }
  if (chunk == max_chunks) return make_error_code(errc::no_dmb_left);
  const std::uint64_t offset =
      directory_size + std::uint64_t{chunk} * chunk_size + std::uint64_t{uses_[chunk].made} * size;
  const result<std::byte*> memory = map_chunk(chunk);
  if (!memory) return memory.error();
  const result<unique_fd> file = open_file();
  if (!file) return file.error();
  const std::size_t directory_page = (index + 1) * sizeof(dmb_entry) / page_size * page_size;
  if (const error_code failure = reserve(file->get(), directory_page, page_size)) return failure;
  uses_[chunk].size = size;
  ++uses_[chunk].made;
  dmb_entry& added = entry(index);
  added.offset = offset;
  added.size = size;
  // [entries] the entry before the count that shows it.
  head.entries.store(index + 1, std::memory_order_release);
  return index;
}

result<dmb> segment::register_dmb(std::uint32_t size) noexcept {
  if (!is_size(size)) return make_error_code(errc::bad_size);
  const std::uint32_t count = directory_.at<header>(0)->entries.load(std::memory_order_relaxed);
  std::uint32_t index = 0;
  for (; index < count; ++index) {
    const dmb_entry& known = entry(index);
    // [attach] A late writer enters itself before it looks at the token.
    if (known.size == size && known.token.load(std::memory_order_relaxed) == 0 &&
        known.attached.load(std::memory_order_seq_cst) == 0) {
      break;
    }
  }
  if (index == count) {
    const result<std::uint32_t> added = add_entry(size);
    if (!added) return added.error();
    index = *added;
  }
  dmb_entry& chosen = entry(index);
  // Bit 62 keeps the token from being zero.
  const dmb_token token{random_number() << index_bits | index | std::uint64_t{1} << 62};
  result<dmb> made = view(token, chosen.offset, size);
  if (!made) return made;
  const std::size_t reserved = std::min(size, reserved_size);
  if (const error_code failure = reserve(made->memory.first(reserved))) return failure;
  std::memset(made->memory.data(), 0, cdc_size);
  chosen.token.store(token.value, std::memory_order_release);
  return made;
}

void segment::unregister_dmb(dmb_token token) noexcept {
  const std::uint32_t index = index_of(token);
  if (index >= directory_.at<header>(0)->entries.load(std::memory_order_relaxed)) return;
  std::uint64_t mine = token.value;
  entry(index).token.compare_exchange_strong(mine, 0, std::memory_order_seq_cst);
}

bool segment::is_idle(bool writer_is_dead) const noexcept {
  const std::uint32_t count = directory_.at<header>(0)->entries.load(std::memory_order_relaxed);
  for (std::uint32_t index = 0; index < count; ++index) {
    const dmb_entry& known = entry(index);
    if (known.token.load(std::memory_order_relaxed) != 0) return false;
    if (!writer_is_dead && known.attached.load(std::memory_order_seq_cst) != 0) return false;
  }
  return true;
}

// ---- writer ----------------------------------------------------------------

result<dmb> segment::attach(dmb_token token) noexcept {
  const std::uint32_t index = index_of(token);
  // [entries]
  if (token.is_none() || index >= max_entries ||
      index >= directory_.at<header>(0)->entries.load(std::memory_order_acquire)) {
    return make_error_code(errc::unknown_token);
  }
  dmb_entry& wanted = entry(index);
  std::uint32_t nobody = 0;
  // [attach] first enter, then look whether the DMB is still offered.
  if (!wanted.attached.compare_exchange_strong(nobody, 1, std::memory_order_seq_cst)) {
    return make_error_code(errc::unknown_token);
  }
  if (wanted.token.load(std::memory_order_seq_cst) != token.value) {
    wanted.attached.store(0, std::memory_order_seq_cst);
    return make_error_code(errc::unknown_token);
  }
  // One load of each word that the other side could change.
  const std::uint64_t offset = std::atomic_ref(wanted.offset).load(std::memory_order_relaxed);
  const std::uint32_t size = std::atomic_ref(wanted.size).load(std::memory_order_relaxed);
  result<dmb> attached = view(token, offset, size);
  if (!attached) wanted.attached.store(0, std::memory_order_seq_cst);
  return attached;
}

result<dmb> segment::attached_view(dmb_token token) noexcept {
  const std::uint32_t index = index_of(token);
  if (index >= max_entries || entry(index).attached.load(std::memory_order_relaxed) == 0 ||
      entry(index).token.load(std::memory_order_acquire) != token.value) {
    return make_error_code(errc::unknown_token);
  }
  return view(token, std::atomic_ref(entry(index).offset).load(std::memory_order_relaxed),
              std::atomic_ref(entry(index).size).load(std::memory_order_relaxed));
}

void segment::detach(dmb_token token) noexcept {
  const std::uint32_t index = index_of(token);
  if (index < max_entries) entry(index).attached.store(0, std::memory_order_seq_cst);
}

}  // namespace dibs
