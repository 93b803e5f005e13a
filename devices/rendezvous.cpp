// SPDX-License-Identifier: Apache-2.0
#include <devices/rendezvous.hpp>

#include <devices/chaos.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <new>

namespace dibs {
namespace {

constexpr std::uint64_t magic = 0x35304C4F56445244;  // "DRDVOL05": name and layout version

constexpr std::size_t record_stride = 512;
constexpr std::size_t devices_at = page_size;
constexpr std::size_t listeners_at = devices_at + rendezvous::device_count * sizeof(device_entry);
constexpr std::size_t records_at =
    listeners_at + rendezvous::listener_count * sizeof(listener_entry);
constexpr std::size_t file_size = records_at + rendezvous::record_count * record_stride;
constexpr std::size_t lazy_pages = (file_size - listeners_at) / page_size;
static_assert(sizeof(device_entry) == 32 && sizeof(listener_entry) == cache_line);
static_assert(rendezvous::listeners_per_page * sizeof(listener_entry) == page_size &&
              rendezvous::records_per_page * record_stride == page_size);
static_assert(listeners_at % page_size == 0 && records_at % page_size == 0);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// Slots tried from where the key hashes to. A full neighbourhood means TCP.
constexpr std::uint32_t probes = 8;

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) noexcept {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ hash >> 29;
}

std::uint64_t hash_of(const inet_address& address) noexcept {
  std::uint64_t words[2];
  std::memcpy(words, address.bytes.data(), sizeof words);
  return mix(mix(mix(0, words[0]), words[1]), address.port);
}

std::uint32_t bucket_of(const connection_key& key) noexcept {
  const auto hash = mix(mix(hash_of(key.client), hash_of(key.server)), key.netns);
  return static_cast<std::uint32_t>(hash >> 16) % rendezvous::record_count;
}

bool matches(const record& entry, const connection_key& key) noexcept {
  return entry.netns == key.netns && entry.client_address == key.client &&
         entry.server_address == key.server;
}

// Its maker has not come to the end, or was killed on the way: sizes that only
// such a file has. One of full size without the magic is unfinished too.
bool is_begun(const struct stat& status) noexcept {
  const auto size = static_cast<std::size_t>(status.st_size);
  return size == 0 || size == listeners_at;
}

// A state word while somebody is at work on its slot.
constexpr std::uint64_t by(std::uint32_t who, std::uint32_t state) noexcept {
  return std::uint64_t{who} << 32 | state;
}

constexpr std::uint32_t has_stopped = 0x80000000;

}  // namespace

// A call that fills or joins a slot: counted, so that the device does not leave
// meanwhile. What it leaves half done when it is killed is then sweepable.
class rendezvous::filling {
 public:
  explicit filling(rendezvous& of) noexcept
      : fillers_(of.fillers_),
        may_begin_((fillers_.fetch_add(1, std::memory_order_acq_rel) & has_stopped) == 0) {}
  filling(const filling&) = delete;
  filling& operator=(const filling&) = delete;
  // [stop] what was made before the count that says so.
  ~filling() { fillers_.fetch_sub(1, std::memory_order_acq_rel); }

  [[nodiscard]] bool may_begin() const noexcept { return may_begin_; }

 private:
  std::atomic<std::uint32_t>& fillers_;
  const bool may_begin_;
};

struct rendezvous::header {
  std::atomic<std::uint64_t> magic;  // stored last by whoever made the file
  std::atomic<std::uint64_t> reserved_pages[(lazy_pages + 63) / 64];
};

rendezvous::header& rendezvous::head() const noexcept { return *memory_.at<header>(0); }

device_entry* rendezvous::device_at(std::uint32_t index) const noexcept {
  return memory_.at<device_entry>(devices_at + index * sizeof(device_entry));
}
listener_entry* rendezvous::listener_at(std::uint32_t index) const noexcept {
  const std::size_t offset = listeners_at + index * sizeof(listener_entry);
  return is_reserved(offset) ? memory_.at<listener_entry>(offset) : nullptr;
}
record* rendezvous::record_at(std::uint32_t index) const noexcept {
  const std::size_t offset = records_at + index * record_stride;
  return is_reserved(offset) ? memory_.at<record>(offset) : nullptr;
}
std::uint32_t rendezvous::index_of(const record* at) const noexcept {
  const auto offset = reinterpret_cast<const std::byte*>(at) - memory_.data();
  return static_cast<std::uint32_t>((static_cast<std::size_t>(offset) - records_at) /
                                    record_stride);
}

result<rendezvous> rendezvous::open(const fabric& in) noexcept {
  static_assert(sizeof(header) <= page_size);
  rendezvous opened;
  opened.path_ = in.rendezvous_path();
  const unique_fd file(::open(opened.path_.data(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.is_open()) return last_error();
  // The lock keeps two makers apart. The mapping would keep it, so it is given
  // up by hand.
  while (::flock(file.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return last_error();
  }
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return last_error();
  // Makers hold the lock to the end: what is unfinished now is ours to make.
  if (is_begun(status)) {
    if (const error_code failure = reserve(file.get(), 0, listeners_at)) {
      static_cast<void>(::ftruncate(file.get(), 0));
      return failure;
    }
    if (::ftruncate(file.get(), static_cast<off_t>(file_size)) != 0) return last_error();
  } else if (static_cast<std::size_t>(status.st_size) != file_size) {
    return make_error_code(errc::fabric_unusable);
  }
  result<mapping> memory = mapping::map(file.get(), file_size);
  if (!memory) return memory.error();
  opened.memory_ = std::move(*memory);
  opened.inode_ = status.st_ino;
  opened.nonce_seed_ = random_number();
  std::uint64_t unfinished = 0;
  opened.head().magic.compare_exchange_strong(unfinished, magic, std::memory_order_acq_rel);
  static_cast<void>(::flock(file.get(), LOCK_UN));
  if (opened.head().magic.load(std::memory_order_acquire) != magic) {
    return make_error_code(errc::fabric_unusable);
  }
  return opened;
}

result<rendezvous> rendezvous::open_read_only(const fabric& in) noexcept {
  rendezvous opened;
  opened.path_ = in.rendezvous_path();
  const unique_fd file(::open(opened.path_.data(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) return last_error();
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return last_error();
  if (is_begun(status)) return system_error(ENOENT);
  if (static_cast<std::size_t>(status.st_size) != file_size) {
    return make_error_code(errc::fabric_unusable);
  }
  result<mapping> memory = mapping::map(file.get(), file_size, 0, false);
  if (!memory) return memory.error();
  opened.memory_ = std::move(*memory);
  const std::uint64_t version = opened.head().magic.load(std::memory_order_acquire);
  if (version == 0) return system_error(ENOENT);
  if (version != magic) return make_error_code(errc::fabric_unusable);
  return opened;
}

bool rendezvous::is_reserved(std::size_t offset) const noexcept {
  const std::size_t page = (offset - listeners_at) / page_size;
  return head().reserved_pages[page / 64].load(std::memory_order_acquire) >> page % 64 & 1;
}

bool rendezvous::reserve_page(std::size_t offset) noexcept {
  if (is_reserved(offset)) return true;
  const unique_fd file(::open(path_.data(), O_RDWR | O_CLOEXEC));
  struct stat status {};
  // Someone may have removed the directory and made another: not our file.
  if (!file.is_open() || ::fstat(file.get(), &status) != 0 || status.st_ino != inode_) {
    return false;
  }
  if (reserve(file.get(), offset / page_size * page_size, page_size)) return false;
  const std::size_t page = (offset - listeners_at) / page_size;
  head().reserved_pages[page / 64].fetch_or(std::uint64_t{1} << page % 64,
                                            std::memory_order_acq_rel);
  return true;
}

// ---- devices ---------------------------------------------------------------

result<device_number> rendezvous::enter(const gid& id) noexcept {
  for (std::uint32_t index = 0; index < device_count; ++index) {
    device_entry& entry = *device_at(index);
    std::uint64_t state = entry.state.load(std::memory_order_relaxed);
    if ((state & slot_mask) != slot_free) continue;
    const std::uint32_t generation = slot_generation(state) + 1;
    if (!entry.state.compare_exchange_strong(state,
                                             by(first_word(id), generation << 2 | slot_filling))) {
      continue;
    }
    chaos::stall();
    entry.id = id;
    // [device] the gid before the state that publishes it.
    entry.state.store(generation << 2 | slot_used, std::memory_order_release);
    const device_number number{static_cast<std::uint16_t>(index),
                               static_cast<std::uint16_t>(generation)};
    self_ = number.word();
    return number;
  }
  return make_error_code(errc::fabric_full);
}

gid rendezvous::device_of(device_number number) const noexcept {
  if (number.index >= device_count) return {};
  const device_entry& entry = *device_at(number.index);
  // [device]
  const std::uint64_t state = entry.state.load(std::memory_order_acquire);
  if ((state & slot_mask) != slot_used) return {};
  return (slot_generation(state) & 0xFFFF) == number.generation ? entry.id : gid{};
}

bool rendezvous::stop() noexcept {
  // [stop]
  return (fillers_.fetch_or(has_stopped, std::memory_order_acq_rel) & ~has_stopped) == 0;
}

// ---- listeners -------------------------------------------------------------

namespace {

std::uint32_t listener_bucket(std::uint64_t netns, std::uint16_t port) noexcept {
  return static_cast<std::uint32_t>(mix(mix(0, netns), port) >> 16) % rendezvous::listener_count;
}

// Does a listener bound to `bound` take a connection to `wanted`?
bool accepts(const inet_address& bound, const inet_address& wanted) noexcept {
  if (bound.port != wanted.port) return false;
  if (!bound.is_any()) return bound.bytes == wanted.bytes;
  return !bound.is_v4() || wanted.is_v4();  // :: also takes IPv4 unless it is IPv6 only
}

}  // namespace

listener_entry* rendezvous::publish_listener(std::uint64_t netns, const inet_address& address,
                                             const gid& device) noexcept {
  const filling call(*this);
  if (!call.may_begin() || chaos::one_in(32)) return nullptr;
  const std::uint32_t start = listener_bucket(netns, address.port);
  for (std::uint32_t i = 0; i < probes; ++i) {
    const std::uint32_t index = (start + i) % listener_count;
    if (!reserve_page(listeners_at + index * sizeof(listener_entry))) return nullptr;
    listener_entry* entry = listener_at(index);
    std::uint64_t state = entry->state.load(std::memory_order_relaxed);
    if ((state & slot_mask) != slot_free) continue;
    const std::uint32_t generation = slot_generation(state) + 1;
    if (!entry->state.compare_exchange_strong(state, by(self_, generation << 2 | slot_filling))) {
      continue;
    }
    chaos::stall();
    entry->netns = netns;
    entry->address = address;
    entry->device = device;
    entry->state.store(generation << 2 | slot_used, std::memory_order_release);
    return entry;
  }
  return nullptr;
}

void rendezvous::withdraw_listener(listener_entry* entry) noexcept {
  if (entry == nullptr) return;
  std::uint64_t state = entry->state.load(std::memory_order_relaxed);
  if ((state & slot_mask) != slot_used) return;
  entry->state.compare_exchange_strong(state, emptied(state), std::memory_order_release);
}

listener_entry* rendezvous::find_listener(std::uint64_t netns,
                                          const inet_address& address) const noexcept {
  const std::uint32_t start = listener_bucket(netns, address.port);
  for (std::uint32_t i = 0; i < probes; ++i) {
    listener_entry* entry = used_listener((start + i) % listener_count);
    if (entry != nullptr && entry->netns == netns && accepts(entry->address, address)) return entry;
  }
  return nullptr;
}

rendezvous::sharers rendezvous::find_sharers(std::uint64_t netns,
                                             const inet_address& address) const noexcept {
  const std::uint32_t start = listener_bucket(netns, address.port);
  sharers found;
  for (std::uint32_t i = 0; i < probes; ++i) {
    listener_entry* entry = used_listener((start + i) % listener_count);
    if (entry == nullptr || entry->netns != netns || entry->address != address) continue;
    ++found.count;
    found.one = entry;
  }
  return found;
}

listener_entry* rendezvous::used_listener(std::uint32_t index) const noexcept {
  listener_entry* entry = listener_at(index);
  return entry != nullptr && (entry->state.load(std::memory_order_acquire) & slot_mask) == slot_used
             ? entry
             : nullptr;
}

// ---- records ---------------------------------------------------------------

record_ref rendezvous::publish(const connection_key& key, const gid& device,
                               std::uint64_t socket_cookie, std::uint32_t home_slot) noexcept {
  const filling call(*this);
  if (!call.may_begin() || chaos::one_in(32)) return {};
  const std::uint32_t start = bucket_of(key);
  // One TCP connection has this key now, so an older record of the same key
  // that nobody joined is stale.
  if (const record_ref stale = find(key); stale.at != nullptr) release(stale, true);
  for (std::uint32_t i = 0; i < probes; ++i) {
    const std::uint32_t index = (start + i) % record_count;
    if (!reserve_page(records_at + index * record_stride)) return {};
    record* entry = record_at(index);
    std::uint64_t state = entry->state.load(std::memory_order_acquire);
    if ((state & record_state_mask) != record_free) continue;
    // Bits that mean nothing do not survive, whoever set them.
    const std::uint32_t generation = generation_of(state);
    if (!entry->state.compare_exchange_strong(state, by(self_, generation << 8 | record_filling))) {
      continue;
    }
    chaos::stall();
    entry->netns = key.netns;
    entry->client_address = key.client;
    entry->server_address = key.server;
    // Unique, not secret: whoever could read it may write the record as well.
    entry->nonce = mix(nonce_seed_, nonces_.fetch_add(1, std::memory_order_relaxed)) | 1;
    new (&entry->client) record_side{};
    new (&entry->server) record_side{};
    entry->client.device = device;
    entry->client.socket_cookie = socket_cookie;
    entry->client.home_slot = home_slot;
    // [record] everything above before the state that shows it.
    entry->state.store(generation << 8 | record_published, std::memory_order_release);
    return {entry, generation};
  }
  return {};
}

record_ref rendezvous::find(const connection_key& key) noexcept {
  const std::uint32_t start = bucket_of(key);
  record_ref found;
  for (std::uint32_t i = 0; i < probes; ++i) {
    record* entry = record_at((start + i) % record_count);
    if (entry == nullptr) continue;
    // [record]
    const std::uint64_t state = entry->state.load(std::memory_order_acquire);
    if ((state & 0xFF) != record_published || !matches(*entry, key)) continue;
    if (found.at != nullptr) return {};
    found = {entry, generation_of(state)};
  }
  return found;
}

bool rendezvous::join(record_ref found, const gid& device, std::uint64_t socket_cookie,
                      std::uint32_t home_slot) noexcept {
  const filling call(*this);
  std::uint64_t state = found.generation << 8 | record_published;
  const std::uint64_t joining = by(self_, found.generation << 8 | record_joining);
  if (!call.may_begin() || !found.at->state.compare_exchange_strong(state, joining)) return false;
  chaos::stall();
  found.at->server.device = device;
  found.at->server.socket_cookie = socket_cookie;
  found.at->server.home_slot = home_slot;
  chaos::stall();
  // [record] By exchange: the client may leave while we join.
  state = joining;
  if (found.at->state.compare_exchange_strong(state, found.generation << 8 | record_joined)) {
    return true;
  }
  state = joining | client_gone;
  found.at->state.compare_exchange_strong(state, next_free(state), std::memory_order_acq_rel);
  return false;
}

void rendezvous::release(record_ref ref, bool is_client) noexcept {
  if (ref.at == nullptr) return;
  std::uint64_t state = ref.at->state.load(std::memory_order_acquire);
  for (;;) {
    if (generation_of(state) != ref.generation) return;
    const std::uint64_t stage = state & record_state_mask;
    if (stage == record_free || stage == record_filling) return;
    std::uint64_t next = state | (is_client ? client_gone : server_gone);
    const bool is_last = stage == record_published ||
                         (stage == record_joined && (next & client_gone) && (next & server_gone));
    if (is_last) next = next_free(state);
    if (ref.at->state.compare_exchange_weak(state, next, std::memory_order_acq_rel)) return;
  }
}

}  // namespace dibs
