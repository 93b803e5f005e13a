// SPDX-License-Identifier: Apache-2.0
#include <devices/device.hpp>

#include <algorithm>

namespace dibs {
namespace {

template <class T, std::size_t N>
bool put(std::array<T*, N>& places, T* what, T* instead_of) noexcept {
  const auto place = std::find(places.begin(), places.end(), instead_of);
  if (place == places.end()) return false;
  *place = what;
  return true;
}

}  // namespace

bool registry::register_client(client& added) noexcept {
  if (!put<client>(clients_, &added, nullptr)) return false;
  for (device* known : devices_) {
    if (known != nullptr) added.add_device(*known);
  }
  return true;
}

void registry::unregister_client(client& removed) noexcept {
  if (!put<client>(clients_, nullptr, &removed)) return;
  for (device* known : devices_) {
    if (known != nullptr) removed.remove_device(*known);
  }
}

bool registry::add_device(device& added) noexcept {
  if (!put<device>(devices_, &added, nullptr)) return false;
  for (client* told : clients_) {
    if (told != nullptr) told->add_device(added);
  }
  return true;
}

void registry::remove_device(device& removed) noexcept {
  if (!put<device>(devices_, nullptr, &removed)) return;
  for (client* told : clients_) {
    if (told != nullptr) told->remove_device(removed);
  }
}

}  // namespace dibs
