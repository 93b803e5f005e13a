// SPDX-License-Identifier: Apache-2.0
#include <tools/snapshot.hpp>

#include <tools/guarded.hpp>

#include <devices/rendezvous.hpp>
#include <smcd/home.hpp>

#include <arpa/inet.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace tools {
namespace {

// The bytes of a T that another process may be writing.
template <class T>
class raw_copy {
 public:
  void take(const T& from) noexcept { std::memcpy(bytes_.data(), &from, sizeof(T)); }
  [[nodiscard]] const T& get() const noexcept { return *reinterpret_cast<const T*>(bytes_.data()); }

 private:
  alignas(T) std::array<std::byte, sizeof(T)> bytes_;
};

// A bool may hold any byte here, and must not be read as one.
template <class Flag>
bool is_set(const Flag& flag) noexcept {
  static_assert(sizeof(Flag) == 1);
  unsigned char byte = 0;
  std::memcpy(&byte, static_cast<const void*>(&flag), 1);
  return byte != 0;
}

std::string printable(std::string_view text) {
  std::string clean(text.substr(0, text.find('\0')));
  std::replace_if(
      clean.begin(), clean.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return clean;
}

traffic read_direction(const smcd::direction& from) noexcept {
  traffic read;
  read.on = from.on();
  read.dmb_bytes = from.dmb_bytes();
  read.tcp_bytes = from.tcp_bytes.load(std::memory_order_relaxed);
  return read;
}

connection_entry read_end(const smcd::end_state& from, const process_entry& owner) {
  connection_entry read;
  read.owner = owner;
  read.local = from.local;
  read.remote = from.remote;
  read.stage = from.stage.load(std::memory_order_relaxed);
  read.role = from.role;
  read.local_reason = from.local_reason;
  read.peer_reason = from.peer_reason;
  read.sending = read_direction(from.sending);
  read.receiving = read_direction(from.receiving);
  read.peer = from.peer;
  read.token = from.dmb_token;
  read.peer_token = from.peer_token;
  read.link_id = from.link_id;
  read.record_index = from.record_index;
  read.life.is_decided = read.stage == smcd::end_stage::plain ||
                         read.stage == smcd::end_stage::declined ||
                         read.stage == smcd::end_stage::established;
  read.life.is_shut = is_set(from.sending.is_shut);
  read.life.was_peer_first = is_set(from.sending.was_peer_first);
  return read;
}

// Something that is no file would make open() wait or do worse.
bool is_file(const char* path) noexcept {
  struct stat status {};
  return ::lstat(path, &status) == 0 && S_ISREG(status.st_mode);
}

// False if the home vanished or cannot be read: then the device is not shown.
bool read_home(const dibs::fabric& in, const dibs::gid& id, process_entry& owner,
               std::vector<connection_entry>& to) {
  dibs::result<smcd::home_reader> home = dibs::make_error_code(dibs::errc::fabric_unusable);
  decltype(smcd::home_header::command) command{};
  std::size_t count = 0;
  const bool is_there = read_guarded([&]() noexcept {
    home = smcd::home_reader::open(in, id);
    if (!home) return;
    owner.pid = home->head().pid;
    owner.uid = home->head().uid;
    command = home->head().command;
    home->for_each_end([&](const smcd::end_state&) noexcept { ++count; });
  });
  if (!is_there || !home) return false;
  owner.device = id;
  owner.command = printable({command.data(), command.size()});

  std::vector<raw_copy<smcd::end_state>> ends(count);
  std::size_t copied = 0;
  // Cut short by a file that shrank: what was copied is shown.
  static_cast<void>(read_guarded([&]() noexcept {
    home->for_each_end([&](const smcd::end_state& end) noexcept {
      if (copied < ends.size()) ends[copied++].take(end);
    });
  }));
  ends.resize(copied);
  for (const auto& end : ends) to.push_back(read_end(end.get(), owner));
  return true;
}

// The other end of a connection that both have in this fabric is the one that
// owns the DMB we write.
void find_peers(std::vector<connection_entry>& connections) {
  std::map<std::pair<dibs::gid, std::uint64_t>, const connection_entry*> by_dmb;
  for (const connection_entry& entry : connections) {
    if (entry.token != 0) by_dmb[{entry.owner.device, entry.token}] = &entry;
  }
  for (connection_entry& entry : connections) {
    if (entry.peer_token == 0) continue;
    const auto found = by_dmb.find({entry.peer, entry.peer_token});
    if (found != by_dmb.end()) entry.life.peer_is_done = found->second->life.is_shut;
  }
}

// The record of a connection says whether the other end has closed, its
// device whether it died.
void find_departed(const dibs::fabric& in, const std::map<dibs::gid, process_entry>& owners,
                   dibs::rendezvous& meeting, std::vector<connection_entry>& connections) noexcept {
  for (connection_entry& entry : connections) {
    if (entry.peer.is_none() || entry.record_index >= dibs::rendezvous::record_count) continue;
    static_cast<void>(read_guarded([&]() noexcept {
      const dibs::record* at = meeting.record_at(entry.record_index);
      if (at == nullptr) return;
      const std::uint32_t gone =
          entry.role == smcd::handshake_role::client ? dibs::server_gone : dibs::client_gone;
      entry.life.peer_is_gone = (at->state.load(std::memory_order_relaxed) & gone) != 0;
    }));
    if (owners.count(entry.peer) == 0 && !in.is_alive(entry.peer)) entry.life.peer_is_gone = true;
  }
}

void read_rendezvous(const dibs::fabric& in, const std::map<dibs::gid, process_entry>& owners,
                     snapshot& to) {
  if (!is_file(in.rendezvous_path().data())) return;
  dibs::result<dibs::rendezvous> meeting = dibs::make_error_code(dibs::errc::fabric_unusable);
  static_cast<void>(
      read_guarded([&]() noexcept { meeting = dibs::rendezvous::open_read_only(in); }));
  if (!meeting) {
    // Its maker is about to finish it: nobody can listen yet.
    if (meeting.error() == dibs::system_error(ENOENT)) return;
    throw std::runtime_error("'" + std::string(in.rendezvous_path().data()) +
                             "': " + meeting.error().message());
  }
  std::vector<raw_copy<dibs::listener_entry>> entries(dibs::rendezvous::listener_count);
  std::size_t copied = 0;
  static_cast<void>(read_guarded([&]() noexcept {
    meeting->for_each_listener([&](const dibs::listener_entry& entry) noexcept {
      if (copied < entries.size()) entries[copied++].take(entry);
    });
  }));
  for (std::size_t i = 0; i < copied; ++i) {
    const auto owner = owners.find(entries[i].get().device);
    if (owner != owners.end()) to.listeners.push_back({owner->second, entries[i].get().address});
  }
  find_departed(in, owners, *meeting, to.connections);
}

}  // namespace

snapshot take_snapshot(const dibs::fabric& in) {
  std::vector<dibs::gid> devices;
  // Not in the visitor, which must not throw.
  devices.reserve(dibs::rendezvous::device_count);
  in.for_each_device([&](const dibs::gid& id) noexcept {
    if (devices.size() < devices.capacity()) devices.push_back(id);
  });

  snapshot taken;
  std::map<dibs::gid, process_entry> owners;
  for (const dibs::gid& id : devices) {
    process_entry owner;
    if (is_file(in.home_path(id).data()) && in.is_alive(id) &&
        read_home(in, id, owner, taken.connections)) {
      owners[id] = owner;
    }
  }
  find_peers(taken.connections);
  read_rendezvous(in, owners, taken);

  std::sort(taken.connections.begin(), taken.connections.end(), [](const auto& a, const auto& b) {
    return std::tie(a.owner.pid, a.owner.device, a.local, a.remote) <
           std::tie(b.owner.pid, b.owner.device, b.local, b.remote);
  });
  std::sort(taken.listeners.begin(), taken.listeners.end(), [](const auto& a, const auto& b) {
    return std::tie(a.owner.pid, a.owner.device, a.local) <
           std::tie(b.owner.pid, b.owner.device, b.local);
  });
  return taken;
}

// ---- in words --------------------------------------------------------------

std::string_view state_name(const connection_entry& entry) noexcept {
  const bool is_known = entry.life.is_decided || entry.stage == smcd::end_stage::candidate ||
                        entry.stage == smcd::end_stage::joined ||
                        entry.stage == smcd::end_stage::handshake;
  return is_known ? smcd::to_text(smcd::state_of(entry.life)) : "UNKNOWN";
}

std::string_view stage_name(smcd::end_stage stage) noexcept {
  switch (stage) {
    case smcd::end_stage::plain: return "plain";
    case smcd::end_stage::candidate: return "candidate";
    case smcd::end_stage::joined: return "joined";
    case smcd::end_stage::handshake: return "handshake";
    case smcd::end_stage::declined: return "declined";
    case smcd::end_stage::established: return "established";
  }
  return "unknown";
}

std::string_view lane_name(smcd::lane lane) noexcept {
  switch (lane) {
    case smcd::lane::tcp: return "tcp";
    case smcd::lane::dmb: return "dmb";
  }
  return "unknown";
}

std::string host_text(const dibs::inet_address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool is_v4 = address.is_v4();
  ::inet_ntop(is_v4 ? AF_INET : AF_INET6, address.bytes.data() + (is_v4 ? 12 : 0), text.data(),
              text.size());
  return text.data();
}

std::string to_text(const dibs::inet_address& address) {
  const std::string host = host_text(address);
  return (address.is_v4() ? host : "[" + host + "]") + ":" + std::to_string(address.port);
}

}  // namespace tools
