// SPDX-License-Identifier: Apache-2.0
#include <driver/plan.hpp>

#include <driver/programs/all.hpp>

#include <utility>

namespace bench {
namespace {

using list = std::vector<question>;

std::string in_bytes(std::size_t size) {
  if (size >= 1024 * 1024) return std::to_string(size / 1024 / 1024) + " MiB";
  return size >= 1024 ? std::to_string(size / 1024) + " KiB" : std::to_string(size) + " B";
}
// The same as part of a name: 64, 128k, 1m.
std::string abbreviated(std::size_t size) {
  if (size >= 1024 * 1024) return std::to_string(size / 1024 / 1024) + "m";
  return size >= 1024 ? std::to_string(size / 1024) + "k" : std::to_string(size);
}
std::string in_time(unsigned us) {
  return us >= 1000 ? std::to_string(us / 1000) + " ms" : std::to_string(us) + " us";
}

void add_round_trips(list& to) {
  const std::string title = "round trip, 64 B, ";
  const placement together = placement::together;
  to.push_back({.name = "rtt", .title = title + "one core each"});
  to.push_back({.name = "rtt-epoll", .title = title + "one core each, epoll", .is_epoll = true});
  to.push_back({.name = "rtt-one-core", .title = title + "both on one core", .where = together});
  to.push_back({.name = "rtt-epoll-one-core",
                .title = title + "both on one core, epoll",
                .where = together,
                .is_epoll = true});
  to.push_back({.name = "rtt-unpinned",
                .title = title + "as the scheduler likes",
                .where = placement::free});
  for (const unsigned us : {10U, 100U, 1000U, 10000U}) {
    to.push_back({.name = "rtt-gap-" + (us < 1000 ? std::to_string(us) + "us"
                                                  : std::to_string(us / 1000) + "ms"),
                  .title = title + "one core each, the client sleeps " + in_time(us) + " between",
                  .gap_us = us,
                  .is_detail = true});
  }
  for (const std::size_t size : {1, 512, 4096, 16384, 65536, 262144, 1048576}) {
    to.push_back({.name = "rtt-size-" + abbreviated(size),
                  .title = "round trip, " + in_bytes(size) + ", one core each",
                  .size = size,
                  .is_detail = true});
  }
}

void add_streams(list& to) {
  const auto one = [&](std::size_t size, bool is_together, bool is_detail) {
    to.push_back({.name = std::string("stream-") + (is_detail ? "size-" : "") + abbreviated(size) +
                          (is_together ? "-one-core" : ""),
                  .title = "one way, " + in_bytes(size) + " messages, " +
                           (is_together ? "both on one core" : "one core each"),
                  .what = kind::stream,
                  .size = size,
                  .where = is_together ? placement::together : placement::apart,
                  .is_detail = is_detail,
                  .is_flow = true});
  };
  for (const bool is_together : {false, true}) {
    one(131072, is_together, false);
    one(64, is_together, false);
  }
  for (const std::size_t size : {1, 512, 4096, 16384, 65536, 1048576}) one(size, false, true);
}

void add_connections(list& to) {
  for (const kind what : {kind::connect, kind::open}) {
    for (const placement where : {placement::apart, placement::together}) {
      const bool is_apart = where == placement::apart;
      to.push_back(
          {.name = std::string(name_of(what)) + (is_apart ? "" : "-one-core"),
           .title = std::string(what == kind::open ? "connect and close"
                                                   : "connect, 64 B there and back, close") +
                    (is_apart ? "; one core each" : "; both on one core"),
           .what = what,
           .where = where});
    }
  }
}

void add_many(list& to) {
  const std::pair<unsigned, unsigned> counts[] = {{1, 1},       {10, 10},  {100, 100},
                                                  {1000, 1000}, {100, 10}, {1000, 10}};
  for (const auto& [all, active] : counts) {
    const bool are_all = all == active;
    to.push_back({.name = "many-" + std::to_string(all) + (are_all ? "" : "-few"),
                  .title = "round trips, 64 B, on " + (are_all ? "all" : std::to_string(active)) +
                           " of " + std::to_string(all) +
                           " connections, one thread and core each end",
                  .what = kind::many,
                  .is_epoll = true,
                  .connections = all,
                  .active = active});
  }
  to.push_back({.name = "idle",
                .title = "1000 connections that carried 1 KiB each and then nothing for 10 s",
                .what = kind::idle,
                .is_epoll = true,
                .connections = 1000,
                .active = 1000,
                .is_once = true});
}

list make_questions() {
  list made;
  add_round_trips(made);
  add_streams(made);
  add_connections(made);
  add_many(made);
  add_programs(made);
  return made;
}

}  // namespace

const std::vector<question>& questions() {
  static const list all = make_questions();
  return all;
}

bool answers(const transport& who, const question& what) noexcept {
  if (what.programs) {
    if (who.family == "unix") return what.programs->has_unix;
    return who.family == "tcp" && who.is_main && !(who.has_sockmap && what.is_detail);
  }
  if (what.is_detail && !who.is_main) return false;
  if (what.is_epoll && !who.has_epoll) return false;
  return !who.is_bare ||
         (what.where != placement::free && (what.what == kind::ping || what.what == kind::stream));
}

}  // namespace bench
