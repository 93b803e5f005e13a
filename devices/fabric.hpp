// SPDX-License-Identifier: Apache-2.0
#pragma once
// A loopback fabric is a directory. Whoever may open it is trusted like the
// same user. Files in it, by name:
//   rendezvous                    devices, listeners and connection records
//   <gid>.home                    a device's own state; its lock says that the device lives
//   <gid>.events, <gid>.bell.<n>  the device's event queues and their bells
//   <gid>.<peer gid>.dmb          the DMBs of the device that one peer may write
// No descriptor of the directory is kept: paths survive a program that closes
// every descriptor it does not know.

#include <devices/error.hpp>
#include <devices/ids.hpp>
#include <devices/mapping.hpp>
#include <devices/unique_fd.hpp>

#include <array>
#include <cstddef>
#include <string_view>

namespace dibs {

class fabric {
 public:
  static constexpr std::size_t max_path = 256;
  using path_text = std::array<char, max_path>;

  // Opens the fabric of a directory, which is made (mode 0700) if missing. An
  // empty name means /dev/shm/dibs-<uid>, which must belong to this user and
  // to nobody else. errc::fabric_unusable or the system's reason.
  [[nodiscard]] static result<fabric> open(std::string_view directory) noexcept;

  [[nodiscard]] const char* directory() const noexcept { return directory_.data(); }

  // Full paths of the files above; empty if longer than max_path.
  [[nodiscard]] path_text rendezvous_path() const noexcept;
  [[nodiscard]] path_text home_path(const gid&) const noexcept;
  [[nodiscard]] path_text events_path(const gid&) const noexcept;
  [[nodiscard]] path_text bell_path(const gid&, unsigned queue) const noexcept;
  [[nodiscard]] path_text dmb_path(const gid& owner, const gid& writer) const noexcept;

  // Creates `<gid>.home` and locks it for as long as the returned mapping or
  // a copy of it in a child process exists. `size` bytes are mapped, the first
  // `reserved` have memory behind them.
  struct home_file {
    unique_fd file;
    mapping memory;
  };
  [[nodiscard]] result<home_file> create_home(const gid&, std::size_t size,
                                              std::size_t reserved) const noexcept;

  // True while some process has the home of `id` locked. Pids play no part.
  [[nodiscard]] bool is_alive(const gid& id) const noexcept;

  // Calls visit(gid) for each device that has a home file here, dead or alive.
  template <class Visit>
  void for_each_device(Visit visit) const noexcept {
    for_each_home(
        [](void* context, const gid& id) noexcept { (*static_cast<Visit*>(context))(id); }, &visit);
  }

  // Removes every file of a device. What others have mapped stays valid.
  void remove_device(const gid&) const noexcept;
  // Removes files without a home: made by a thread that went on while its
  // process had already left.
  void remove_strays() const noexcept;

 private:
  using home_visitor = void (*)(void* context, const gid&) noexcept;
  void for_each_home(home_visitor, void* context) const noexcept;

  path_text directory_{};
};

}  // namespace dibs
