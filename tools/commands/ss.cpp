// SPDX-License-Identifier: Apache-2.0
// `dibsock ss`: the connections and listeners of a fabric, in the columns of
// smcss or as JSON.
#include <tools/options.hpp>
#include <tools/snapshot.hpp>
#include <tools/table.hpp>

#include <devices/fabric.hpp>
#include <smcd/error.hpp>

#include <boost/json.hpp>

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <optional>

namespace tools {
namespace {

namespace json = boost::json;

template <class... Values>
std::string format(const char* how, Values... values) {
  char text[64];
  std::snprintf(text, sizeof text, how, values...);
  return text;
}

std::string hex(std::uint64_t value) {
  return format("0x%016llx", static_cast<unsigned long long>(value));
}
std::string hex(smcd::decline_code code) { return format("0x%08x", static_cast<unsigned>(code)); }
std::string hex(const dibs::gid& id) { return dibs::to_text(id).data(); }

// Why TCP, in words.
std::string reason_text(const connection_entry& entry) {
  std::string text = smcd::to_text(entry.local_reason);
  if (entry.peer_reason != smcd::decline_code::none) {
    text += std::string(": ") + smcd::to_text(entry.peer_reason);
  }
  return text;
}

std::string mode_text(const connection_entry& entry) {
  switch (entry.stage) {
    case smcd::end_stage::established:
      return "SMCD tx:" + std::string(lane_name(entry.sending.on)) +
             " rx:" + std::string(lane_name(entry.receiving.on));
    case smcd::end_stage::candidate: return "TCP (waits for the peer)";
    case smcd::end_stage::joined: return "TCP (met the peer)";
    case smcd::end_stage::handshake: return "TCP (handshake)";
    case smcd::end_stage::plain:
    case smcd::end_stage::declined: break;
  }
  return "TCP " + hex(entry.local_reason) + "/" + hex(entry.peer_reason) + " (" +
         reason_text(entry) + ")";
}

// ---- text ------------------------------------------------------------------

std::vector<std::string> owner_cells(std::string_view state, const process_entry& owner,
                                     const dibs::inet_address& local) {
  return {std::string(state), std::to_string(owner.uid), std::to_string(owner.pid), owner.command,
          to_text(local)};
}

void print_text(const snapshot& shown, bool has_details) {
  std::vector<std::string> headings{"State",         "UID",          "Pid", "Command",
                                    "Local Address", "Peer Address", "Mode"};
  if (has_details) {
    headings.insert(headings.end(), {"GID", "Token", "Peer-GID", "Peer-Token", "Linkid", "Tx-TCP",
                                     "Tx-DMB", "Rx-TCP", "Rx-DMB"});
  }
  const std::size_t width = headings.size();
  table text(std::move(headings));
  for (const listener_entry& entry : shown.listeners) {
    std::vector<std::string> cells = owner_cells("LISTEN", entry.owner, entry.local);
    cells.resize(width);
    if (has_details) cells[7] = hex(entry.owner.device);
    text.add(std::move(cells));
  }
  for (const connection_entry& entry : shown.connections) {
    std::vector<std::string> cells = owner_cells(state_name(entry), entry.owner, entry.local);
    cells.push_back(to_text(entry.remote));
    cells.push_back(mode_text(entry));
    if (has_details) {
      const auto known = [](bool is_known, const std::string& value) {
        return is_known ? value : std::string();
      };
      cells.push_back(hex(entry.owner.device));
      cells.push_back(known(entry.token != 0, hex(entry.token)));
      cells.push_back(known(!entry.peer.is_none(), hex(entry.peer)));
      cells.push_back(known(entry.peer_token != 0, hex(entry.peer_token)));
      cells.push_back(known(entry.link_id != 0, format("%08x", entry.link_id)));
      for (const traffic& direction : {entry.sending, entry.receiving}) {
        cells.push_back(std::to_string(direction.tcp_bytes));
        cells.push_back(std::to_string(direction.dmb_bytes));
      }
    }
    text.add(std::move(cells));
  }
  text.print(std::cout);
}

// ---- JSON ------------------------------------------------------------------

json::object owner_object(std::string_view state, const process_entry& owner,
                          const dibs::inet_address& local) {
  return {{"state", state},
          {"uid", owner.uid},
          {"pid", owner.pid},
          {"command", owner.command},
          {"local_address", host_text(local)},
          {"local_port", local.port}};
}

json::value reason_value(smcd::decline_code code) {
  if (code == smcd::decline_code::none) return nullptr;
  return json::object{{"code", hex(code)}, {"text", smcd::to_text(code)}};
}

json::object direction_object(const traffic& direction) {
  return {{"lane", lane_name(direction.on)},
          {"tcp_bytes", direction.tcp_bytes},
          {"dmb_bytes", direction.dmb_bytes}};
}

json::object connection_object(const connection_entry& entry) {
  const auto known = [](bool is_known, std::string_view value) {
    return is_known ? json::value(value) : json::value(nullptr);
  };
  json::object made = owner_object(state_name(entry), entry.owner, entry.local);
  made["peer_address"] = host_text(entry.remote);
  made["peer_port"] = entry.remote.port;
  made["mode"] = entry.stage == smcd::end_stage::established ? "SMCD" : "TCP";
  made["stage"] = stage_name(entry.stage);
  // Before it is decided there is no reason yet.
  const bool is_decided =
      entry.stage == smcd::end_stage::plain || entry.stage == smcd::end_stage::declined;
  made["reason"] = is_decided ? reason_value(entry.local_reason) : nullptr;
  made["peer_reason"] = is_decided ? reason_value(entry.peer_reason) : nullptr;
  made["gid"] = hex(entry.owner.device);
  made["token"] = known(entry.token != 0, hex(entry.token));
  made["peer_gid"] = known(!entry.peer.is_none(), hex(entry.peer));
  made["peer_token"] = known(entry.peer_token != 0, hex(entry.peer_token));
  made["link_id"] = known(entry.link_id != 0, format("%08x", entry.link_id));
  made["tx"] = direction_object(entry.sending);
  made["rx"] = direction_object(entry.receiving);
  return made;
}

void print_json(const snapshot& shown) {
  json::array all;
  for (const listener_entry& entry : shown.listeners) {
    json::object made = owner_object("LISTEN", entry.owner, entry.local);
    made["gid"] = hex(entry.owner.device);
    all.push_back(std::move(made));
  }
  for (const connection_entry& entry : shown.connections) all.push_back(connection_object(entry));
  // One object per line: readable, and still one document.
  std::cout << '[';
  for (std::size_t i = 0; i < all.size(); ++i) std::cout << (i == 0 ? "\n" : ",\n") << all[i];
  std::cout << (all.empty() ? "]\n" : "\n]\n");
}

// ---- which fabric ----------------------------------------------------------

// None if there is none yet: no program has opened it. Throws for a directory
// that the user named and that can't be read.
std::optional<dibs::fabric> open_fabric(const std::optional<std::string>& named) {
  std::string directory;
  if (named) {
    directory = *named;
    if (directory.empty()) throw usage_error("--fabric names no directory");
  } else if (const char* variable = std::getenv("DIBSOCK_FABRIC"); variable != nullptr) {
    directory = variable;
  }
  struct stat status {};
  const std::string path = directory.empty()
                               ? format("/dev/shm/dibs-%u", static_cast<unsigned>(::geteuid()))
                               : directory;
  // fabric::open would make it.
  if (::stat(path.c_str(), &status) != 0) {
    if (!named && errno == ENOENT) return std::nullopt;
    throw std::runtime_error("no fabric at '" + path + "': " + std::strerror(errno));
  }
  if (!S_ISDIR(status.st_mode)) {
    throw std::runtime_error("no fabric at '" + path + "': it is no directory");
  }
  const dibs::result<dibs::fabric> fabric = dibs::fabric::open(directory);
  if (!fabric) {
    throw std::runtime_error("fabric '" + path + "': " + fabric.error().message());
  }
  return *fabric;
}

}  // namespace

int show_sockets(const arguments& given) {
  options known("dibsock ss [OPTIONS]");
  known.flag("all,a", "connections and listeners");
  known.flag("listening,l", "only listeners");
  known.flag("smcd,D", "more columns: devices, DMBs, and bytes by lane and direction");
  known.flag("json", "everything as a JSON array");
  known.value("fabric", "directory of the fabric (default: DIBSOCK_FABRIC, or the user's own)");
  if (!known.parse(given)) return 0;
  if (!known.rest().empty()) throw usage_error("'" + known.rest()[0] + "' is not understood");

  snapshot shown;
  if (const auto fabric = open_fabric(known.text("fabric"))) shown = take_snapshot(*fabric);
  if (!known.has("all")) {
    if (known.has("listening")) {
      shown.connections.clear();
    } else {
      shown.listeners.clear();
    }
  }
  if (known.has("json")) {
    print_json(shown);
  } else {
    print_text(shown, known.has("smcd"));
  }
  return 0;
}

}  // namespace tools
