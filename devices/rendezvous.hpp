// SPDX-License-Identifier: Apache-2.0
#pragma once
// The rendezvous of a fabric: who listens, and which connections have a
// capable end on both sides. Only a record that both ends joined permits CLC
// bytes on a TCP connection.
//
// One file, mapped by every process of the fabric. Each word has one writer
// unless it is only ever changed by compare-and-swap. Pages of the tables are
// reserved when their first slot is used.
//
// The upper half of every state word names who is in the midst of filling the
// slot, or of joining it, and is else 0. So what a process was at when it was
// killed is found and taken back by whoever sweeps its device.

#include <devices/fabric.hpp>
#include <devices/ids.hpp>
#include <devices/inet.hpp>
#include <devices/mapping.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

namespace dibs {

// ---- devices ---------------------------------------------------------------

// A device's number in this rendezvous: what a waiter word can hold instead
// of a gid. The generation tells a reused number from the one that was meant.
struct device_number {
  std::uint16_t index = 0;
  std::uint16_t generation = 0;

  friend constexpr bool operator==(device_number, device_number) = default;

  // As the upper half of a state word. Never 0, which means nobody.
  [[nodiscard]] constexpr std::uint32_t word() const noexcept {
    return (std::uint32_t{index} + 1) << 16 | generation;
  }
};

// Of device_entry and listener_entry.
enum slot_state : std::uint32_t { slot_free = 0, slot_filling = 1, slot_used = 2, slot_mask = 3 };
[[nodiscard]] constexpr std::uint32_t slot_generation(std::uint64_t state) noexcept {
  return static_cast<std::uint32_t>(state) >> 2;
}
[[nodiscard]] constexpr std::uint64_t emptied(std::uint64_t state) noexcept {
  return std::uint64_t{slot_generation(state)} << 2 | slot_free;
}

// Writer: rendezvous::enter and leave, by compare-and-swap of `state`. Who is
// about to enter has no number yet: the first 32 bits of its gid stand for it.
struct alignas(32) device_entry {
  std::atomic<std::uint64_t> state;  // who fills it << 32 | generation << 2 | slot_state
  gid id;
};
[[nodiscard]] inline std::uint32_t first_word(const gid& id) noexcept {
  std::uint32_t word = 0;
  std::memcpy(&word, id.bytes.data(), sizeof word);
  return word;
}

// ---- listeners -------------------------------------------------------------

// "Whoever accepts here speaks SMC-D."
struct alignas(cache_line) listener_entry {
  std::atomic<std::uint64_t> state;  // number of who fills it, then as device_entry
  std::uint64_t netns;               // SO_NETNS_COOKIE
  inet_address address;              // may be a wildcard
  gid device;                        // of the process that listens
};

// ---- connection records ----------------------------------------------------

// A change of lane, or a CLC message, at an offset of a direction's stream.
// What the kinds mean is the protocol's business (smcd/lanes.hpp).
struct mark {
  std::uint64_t offset;  // application bytes of this direction before it
  std::uint32_t kind;
  std::uint32_t length;  // bytes of a CLC message, else 0
};

inline constexpr std::uint32_t max_marks = 4;
inline constexpr std::size_t max_waiters = 4;

// What one end tells the other. Writer: that end; reader: the other one.
struct alignas(cache_line) record_side {
  gid device;
  std::uint64_t socket_cookie;                 // SO_COOKIE of this end's TCP socket
  std::uint64_t token;                         // of the DMB this end receives into, 0 before
  std::atomic<std::uint32_t> marks_published;  // [marks] marks before their count
  std::atomic<std::uint32_t> marks_taken;      // of the other side's marks; frees their slots
  std::atomic<std::uint32_t> flags;            // record_flag
  std::uint32_t home_slot;                     // where this end keeps its state in its home file
  // flag_left: bytes that this end has read << 1 | the peer sends the rest again.
  // Both change it by compare-and-swap, until the peer set the lowest bit.
  std::atomic<std::uint64_t> left_at;
  alignas(cache_line) mark marks[max_marks];  // ring, slot = number % max_marks
  // Whom to wake when something changes for this end (event_queue.hpp); 0 is
  // an empty place. Only ever changed by compare-and-swap.
  alignas(cache_line) std::atomic<std::uint64_t> waiters[max_waiters];
};

enum record_flag : std::uint32_t {
  flag_refuses = 1,    // send me no CLC byte any more
  flag_wants_tcp = 2,  // bring your direction back to the TCP lane
  flag_left = 4,       // I read TCP only: send me again what is unread in my ring
};

struct record {
  // number of who fills or joins it << 32 | generation << 8 | gone bits | record_state
  std::atomic<std::uint64_t> state;
  std::uint64_t netns;
  inet_address client_address;
  inet_address server_address;
  std::uint64_t nonce;  // proves, inside CLC, that both ends mean this record
  record_side client;
  record_side server;
};
static_assert(sizeof(record) == 512 - cache_line);

enum record_state : std::uint32_t {
  record_free = 0,
  record_filling = 1,
  record_published = 2,  // by the client; nobody joined
  record_joining = 3,
  record_joined = 4,
  record_state_mask = 0x0F,
  client_gone = 0x10,
  server_gone = 0x20,
};

// Of a record's state word.
[[nodiscard]] constexpr std::uint32_t generation_of(std::uint64_t state) noexcept {
  return static_cast<std::uint32_t>(state) >> 8;
}
[[nodiscard]] constexpr std::uint64_t next_free(std::uint64_t state) noexcept {
  return (generation_of(state) + 1) << 8 | record_free;
}

// A record as one process holds on to it.
struct record_ref {
  static constexpr std::uint32_t none = ~std::uint32_t{0};  // a generation that no record has
  record* at = nullptr;
  std::uint32_t generation = 0;

  // False once the record was freed, and perhaps taken by another connection.
  [[nodiscard]] bool is_current() const noexcept {
    return at != nullptr && generation_of(at->state.load(std::memory_order_acquire)) == generation;
  }
  [[nodiscard]] bool is_joined() const noexcept {
    if (at == nullptr) return false;
    const std::uint64_t state = at->state.load(std::memory_order_acquire);
    return generation_of(state) == generation && (state & record_state_mask) == record_joined;
  }
};

struct connection_key {
  std::uint64_t netns = 0;
  inet_address client;
  inet_address server;
};

// ---- the file --------------------------------------------------------------

class rendezvous {
 public:
  rendezvous() noexcept = default;
  rendezvous(rendezvous&& other) noexcept { *this = std::move(other); }
  rendezvous& operator=(rendezvous&& other) noexcept {
    path_ = other.path_;
    memory_ = std::move(other.memory_);
    inode_ = other.inode_;
    nonce_seed_ = other.nonce_seed_;
    self_ = other.self_;
    return *this;
  }
  // Opens or makes the rendezvous of a fabric. errc::fabric_unusable for a
  // file of another version, errc::fabric_full without room.
  [[nodiscard]] static result<rendezvous> open(const fabric&) noexcept;
  // For tools: never writes. ENOENT where there is none, or none that is finished.
  [[nodiscard]] static result<rendezvous> open_read_only(const fabric&) noexcept;

  // Devices. Who entered by this object makes listeners and records by it.
  [[nodiscard]] result<device_number> enter(const gid&) noexcept;
  // Before a process's own device leaves: no listener or record is made by
  // this object any more. False if a thread, or the caller's own further out on
  // its stack, is in the midst of it: the device must then stay until it is
  // dead, for others to sweep.
  [[nodiscard]] bool stop() noexcept;
  // Also withdraws the device's listeners and its ends of records, and takes
  // back what it was about to make. For a device that stopped or is dead;
  // anybody may call it for one that is dead, more than one at a time.
  void leave(const gid&) noexcept;
  // The device of that number, or "none".
  [[nodiscard]] gid device_of(device_number) const noexcept;

  // Listeners. Null if the table is full: connections then stay on TCP.
  [[nodiscard]] listener_entry* publish_listener(std::uint64_t netns, const inet_address&,
                                                 const gid& device) noexcept;
  void withdraw_listener(listener_entry*) noexcept;
  // How many say exactly that, and one of them: processes may share a listener.
  struct sharers {
    std::uint32_t count = 0;
    listener_entry* one = nullptr;
  };
  [[nodiscard]] sharers find_sharers(std::uint64_t netns, const inet_address&) const noexcept;
  // The listener that a connection to `address` would meet, or null.
  [[nodiscard]] listener_entry* find_listener(std::uint64_t netns,
                                              const inet_address& address) const noexcept;
  // Calls visit(const listener_entry&) for each listener in use, of all namespaces.
  template <class Visit>
  void for_each_listener(Visit visit) const noexcept {
    for (std::uint32_t index = 0; index < listener_count; ++index) {
      if (const listener_entry* entry = used_listener(index)) visit(*entry);
    }
  }

  // Client: makes a record. `home_slot` as in record_side. Null `at` if full.
  [[nodiscard]] record_ref publish(const connection_key&, const gid& device,
                                   std::uint64_t socket_cookie, std::uint32_t home_slot) noexcept;
  // Server: the one published record of that key. Null `at` if there is none,
  // or more than one (ambiguity is TCP).
  [[nodiscard]] record_ref find(const connection_key&) noexcept;
  // Server: joins what find() gave. False if it was withdrawn meanwhile.
  [[nodiscard]] bool join(record_ref, const gid& device, std::uint64_t socket_cookie,
                          std::uint32_t home_slot) noexcept;
  // One end is done with its record; the second one's call frees it.
  void release(record_ref, bool is_client) noexcept;

  // Null if its page is not reserved. index < record_count.
  [[nodiscard]] record* record_at(std::uint32_t index) const noexcept;
  [[nodiscard]] std::uint32_t index_of(const record*) const noexcept;
  // Of all three tables, whatever they are in the midst of.
  [[nodiscard]] std::size_t taken_slots() const noexcept;

  static constexpr std::uint32_t device_count = 2048;
  static constexpr std::uint32_t listener_count = 4096;
  static constexpr std::uint32_t record_count = 16384;
  // Where one slot's page is not reserved, none of its others is.
  static constexpr std::uint32_t listeners_per_page = 64;
  static constexpr std::uint32_t records_per_page = 8;

 private:
  struct header;
  [[nodiscard]] bool is_reserved(std::size_t offset) const noexcept;
  [[nodiscard]] bool reserve_page(std::size_t offset) noexcept;
  [[nodiscard]] header& head() const noexcept;
  class filling;
  // Null if its page is not reserved.
  [[nodiscard]] listener_entry* listener_at(std::uint32_t index) const noexcept;
  [[nodiscard]] listener_entry* used_listener(std::uint32_t index) const noexcept;
  [[nodiscard]] device_entry* device_at(std::uint32_t index) const noexcept;

  fabric::path_text path_{};
  mapping memory_;
  std::uint64_t inode_ = 0;  // of the file that is mapped
  std::uint64_t nonce_seed_ = 0;
  std::uint32_t self_ = 0;  // the number of the device that entered, as a word
  std::atomic<std::uint64_t> nonces_{0};
  std::atomic<std::uint32_t> fillers_{0};  // threads that fill a slot | has stopped
};

}  // namespace dibs
