// SPDX-License-Identifier: Apache-2.0
#include <devices/event_queue.hpp>

#include <devices/chaos.hpp>
#include <devices/lock.hpp>
#include <devices/prefetch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace dibs {
namespace {

constexpr std::size_t queue_stride = 1024;
constexpr std::size_t events_size = page_size + queues_per_device * queue_stride;

struct events_header {
  std::atomic<std::uint64_t> claimed[queues_per_device / 64];
};
static_assert(sizeof(events_header) <= page_size);

void mark_bit(queue_block& block, std::uint16_t bit) noexcept {
  const std::uint64_t mask = std::uint64_t{1} << bit % 64;
  std::atomic<std::uint64_t>& word = block.bits[bit / 64 % 64];
  prepare_write(&block.summary);
  // A set bit has a set summary, or a waiter that is about to take it.
  if ((word.load(std::memory_order_seq_cst) & mask) == 0) {
    const std::uint32_t note = block.noted.fetch_add(1, std::memory_order_relaxed);
    block.notes[note % queue_notes].store(bit, std::memory_order_relaxed);
    word.fetch_or(mask, std::memory_order_seq_cst);
  }
  const std::uint64_t group = std::uint64_t{1} << bit / 64 % 64;
  if ((block.summary.load(std::memory_order_seq_cst) & group) == 0) {
    block.summary.fetch_or(group, std::memory_order_seq_cst);
  }
}

}  // namespace

// ---- event_queues ----------------------------------------------------------

result<event_queues> event_queues::create(const fabric& in, const gid& owner,
                                          device_number number) noexcept {
  event_queues made;
  made.fabric_ = in;
  made.owner_ = owner;
  made.number_ = number;
  made.path_ = in.events_path(owner);
  const unique_fd file(::open(made.path_.data(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.is_open()) return last_error();
  if (const error_code failure = reserve(file.get(), 0, page_size)) return failure;
  if (::ftruncate(file.get(), static_cast<off_t>(events_size)) != 0) return last_error();
  result<mapping> memory = mapping::map(file.get(), events_size);
  if (!memory) return memory.error();
  made.memory_ = std::move(*memory);
  return made;
}

result<std::uint16_t> event_queues::claim() noexcept {
  if (chaos::one_in(8)) return make_error_code(errc::fabric_full);
  auto& claimed = memory_.at<events_header>(0)->claimed;
  for (std::uint32_t index = 0; index < queues_per_device; ++index) {
    const std::uint64_t mask = std::uint64_t{1} << index % 64;
    if ((claimed[index / 64].load(std::memory_order_relaxed) & mask) != 0) continue;
    if ((claimed[index / 64].fetch_or(mask, std::memory_order_acq_rel) & mask) != 0) continue;
    const unique_fd file(::open(path_.data(), O_RDWR | O_CLOEXEC));
    const error_code failure =
        file.is_open() ? reserve(file.get(), page_size + index * queue_stride, queue_stride)
                       : last_error();
    if (failure) {
      claimed[index / 64].fetch_and(~mask, std::memory_order_relaxed);
      return failure;
    }
    queue_block& fresh = block(static_cast<std::uint16_t>(index));
    fresh.armed.store(0, std::memory_order_relaxed);
    return static_cast<std::uint16_t>(index);
  }
  return make_error_code(errc::fabric_full);
}

void event_queues::give_back(std::uint16_t queue) noexcept {
  block(queue).armed.store(0, std::memory_order_relaxed);
  ::unlink(fabric_.bell_path(owner_, queue).data());
  memory_.at<events_header>(0)->claimed[queue / 64].fetch_and(~(std::uint64_t{1} << queue % 64),
                                                              std::memory_order_acq_rel);
}

unique_fd event_queues::open_bell(std::uint16_t queue) const noexcept {
  const auto name = fabric_.bell_path(owner_, queue);
  if (::mkfifo(name.data(), 0600) != 0 && errno != EEXIST) return {};
  // Read and write: the bell never reports the end of its last writer.
  return unique_fd(::open(name.data(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
}

// ---- event_queue -----------------------------------------------------------

result<event_queue> event_queue::open(event_queues& from) noexcept {
  const result<std::uint16_t> index = from.claim();
  if (!index) return index.error();
  event_queue queue;
  queue.from_ = &from;
  queue.index_ = *index;
  queue.block_ = &from.block(*index);
  if (!queue.ensure_bell()) return make_error_code(errc::fabric_unusable);
  return queue;
}

void event_queue::close() noexcept {
  if (from_ == nullptr) return;
  from_->give_back(index_);
  abandon();
}

void event_queue::abandon() noexcept {
  if (!has_bell()) static_cast<void>(bell_.release());
  bell_.reset();
  from_ = nullptr;
}

bool event_queue::has_bell() const noexcept {
  struct stat status {};
  return bell_.is_open() && ::fstat(bell_.get(), &status) == 0 && S_ISFIFO(status.st_mode) &&
         status.st_ino == bell_inode_;
}

bool event_queue::ensure_bell() noexcept {
  if (chaos::one_in(64)) return false;
  if (has_bell()) return true;
  static_cast<void>(bell_.release());  // the number is somebody else's now
  struct stat status {};
  unique_fd opened = from_->open_bell(index_);
  if (!opened.is_open() || ::fstat(opened.get(), &status) != 0) return false;
  bell_ = std::move(opened);
  bell_inode_ = status.st_ino;
  return true;
}

void event_queue::arm() noexcept {
  // [wake] first access of the waiter.
  block_->armed.store(1, std::memory_order_seq_cst);
  chaos::stall();
}

void event_queue::disarm() noexcept { block_->armed.store(0, std::memory_order_relaxed); }

void event_queue::ring() noexcept {
  const cancel_shield not_cancelled;
  static_cast<void>(!::write(bell_.get(), "", 1));
}

void event_queue::drain_bell() noexcept {
  char bytes[64];
  while (::read(bell_.get(), bytes, sizeof bytes) == static_cast<ssize_t>(sizeof bytes)) {
  }
}

bool event_queue::has_bits() const noexcept {
  return block_->summary.load(std::memory_order_seq_cst) != 0;
}

void event_queue::set_bit(std::uint16_t bit) noexcept { mark_bit(*block_, bit); }

// ---- waiters ---------------------------------------------------------------

bool enter_waiter(record_side& side, std::uint64_t word) noexcept {
  if (chaos::one_in(16)) return false;
  for (const auto& place : side.waiters) {
    if (place.load(std::memory_order_relaxed) == word) return true;
  }
  for (auto& place : side.waiters) {
    std::uint64_t empty = 0;
    // [wake] entering the word is part of arming.
    if (place.load(std::memory_order_relaxed) == 0 &&
        place.compare_exchange_strong(empty, word, std::memory_order_seq_cst)) {
      return true;
    }
  }
  return false;
}

void leave_waiter(record_side& side, std::uint64_t word) noexcept {
  for (auto& place : side.waiters) {
    std::uint64_t mine = word;
    if (place.load(std::memory_order_relaxed) == word &&
        place.compare_exchange_strong(mine, 0, std::memory_order_relaxed)) {
      return;
    }
  }
}

// ---- signaller -------------------------------------------------------------

queue_block* signaller::queue_of(const waiter& who) noexcept {
  // A hostile or stale word names no queue that exists.
  if (who.queue >= queues_per_device || who.bit >= queue_bits) return nullptr;
  std::byte* queues = attach(who.device);
  if (queues == nullptr) return nullptr;
  return reinterpret_cast<queue_block*>(queues + page_size + who.queue * queue_stride);
}

void signaller::signal_waiters(record_side& side, held_bell& held) noexcept {
  for (const std::atomic<std::uint64_t>& waiting : side.waiters) {
    if (const std::uint64_t word = waiting.load(std::memory_order_seq_cst); word != 0) {
      signal_word(word, held);
    }
  }
}

bool signaller::can_wake_waiters(const record_side& side, held_bell& held) noexcept {
  for (const std::atomic<std::uint64_t>& waiting : side.waiters) {
    const std::uint64_t word = waiting.load(std::memory_order_relaxed);
    if (word != 0 && !can_wake(word, held)) return false;
  }
  return true;
}

bool signaller::can_wake(std::uint64_t word, held_bell& held) noexcept {
  const waiter who = waiter::from_word(word);
  const queue_block* block = queue_of(who);
  if (block == nullptr) return false;
  if (block->armed.load(std::memory_order_relaxed) == 0 || held.of() == waiter::queue_of(word)) {
    return true;
  }
  held = hold_bell(who);
  return held.is_open();
}

void signaller::signal_word(std::uint64_t word, held_bell& held) noexcept {
  const waiter who = waiter::from_word(word);
  queue_block* block = queue_of(who);
  if (block == nullptr) return;
  mark_bit(*block, who.bit);
  if (chaos::one_in(16)) mark_bit(*block, static_cast<std::uint16_t>(chaos::below(8)));
  chaos::stall();
  // [wake] third access: armed after cursor and bit.
  if ((block->armed.load(std::memory_order_seq_cst) == 0 ||
       block->armed.exchange(0, std::memory_order_seq_cst) == 0) &&
      !chaos::one_in(8)) {
    return;
  }
  if (held.of() != waiter::queue_of(word)) held = hold_bell(who);
  const cancel_shield not_cancelled;
  const int saved = errno;
  // A missing one has no sleeper.
  if (held.is_open()) held.ring();
  errno = saved;
}

held_bell signaller::hold_bell(const waiter& who) noexcept {
  const cancel_shield not_cancelled;
  const int saved = errno;
  const auto name = fabric_.bell_path(devices_->device_of(who.device), who.queue);
  held_bell held = bells_.hold(waiter::queue_of(who.word()), name.data());
  errno = saved;
  return held;
}

std::byte* signaller::attach(device_number number) noexcept {
  if (number.index >= rendezvous::device_count) return nullptr;
  std::atomic<std::uint64_t>& attached = attached_[number.index];
  constexpr std::uint64_t address_mask = (std::uint64_t{1} << 48) - 1;
  const std::uint64_t known = attached.load(std::memory_order_acquire);
  if (known != 0 && known >> 48 == number.generation) {
    return reinterpret_cast<std::byte*>(known & address_mask);
  }
  const cancel_shield not_cancelled;
  const int saved = errno;
  const gid owner = devices_->device_of(number);
  std::byte* fresh = nullptr;
  const unique_fd file(
      owner.is_none() ? -1 : ::open(fabric_.events_path(owner).data(), O_RDWR | O_CLOEXEC));
  struct stat status {};
  if (file.is_open() && ::fstat(file.get(), &status) == 0 &&
      static_cast<std::size_t>(status.st_size) >= events_size) {
    // The place of a reused number is mapped over, never unmapped: a thread
    // that still signals the former owner wakes the new one for nothing.
    if (result<mapping> memory = mapping::map(file.get(), events_size, 0, true,
                                              reinterpret_cast<void*>(known & address_mask))) {
      fresh = memory->release();
      attached.store(
          std::uint64_t{number.generation} << 48 | reinterpret_cast<std::uint64_t>(fresh),
          std::memory_order_release);
    }
  }
  errno = saved;
  return fresh;
}

}  // namespace dibs
