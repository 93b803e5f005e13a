// SPDX-License-Identifier: Apache-2.0
#pragma once
// Two player processes, with or without the preload library, that run one
// program after the other.

#include "page.hpp"

#include <support/scratch_fabric.hpp>

#include <optional>

namespace oracle {

struct outcome {
  struct line {
    std::uint32_t at = status::none;
    std::int64_t value = 0;
    std::int32_t error = 0;
    std::uint64_t hash = 0;
    std::int32_t signals = 0;
    std::vector<std::int64_t> extra;
    std::int32_t late = 0;
    friend bool operator==(const line& a, const line& b) {
      return a.at == b.at && a.value == b.value && a.error == b.error && a.hash == b.hash &&
             a.signals == b.signals && a.extra == b.extra;
    }
  };
  std::vector<line> lines;
  std::string trouble;          // a crash, or a step that never ends
  std::uint32_t stuck = 0;      // how often TCP did not deliver bytes that it took
  std::uint32_t unsettled = 0;  // steps before which bytes did not arrive in time
  std::uint64_t saved = 0;      // bytes that did not go over TCP
};

class pair {
 public:
  // Without a library: plain TCP.
  pair(std::string player, std::string library);
  pair(const pair&) = delete;
  pair& operator=(const pair&) = delete;
  ~pair();

  [[nodiscard]] outcome run(const program&);
  // The next program begins with new processes.
  void stop();

 private:
  void start(std::size_t process);
  void reset(const program&);
  [[nodiscard]] std::string follow(const program&);
  [[nodiscard]] std::string clean_up();
  void kill_step(std::uint32_t number);
  [[nodiscard]] std::string death_of_players();
  [[nodiscard]] std::uint64_t progress() const;
  [[nodiscard]] std::string tell_hang() const;

  std::string player_;
  std::string library_;
  std::optional<support::scratch_fabric> fabric_;
  std::vector<std::string> environment_;
  page* page_ = nullptr;
  int page_fd_ = -1;
  std::array<pid_t, 2> pids_{};
  std::uint32_t programs_ = 0;
};

}  // namespace oracle
