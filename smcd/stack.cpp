// SPDX-License-Identifier: Apache-2.0
#include <smcd/stack.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace smcd {

void stack::leave() noexcept {
  if (!is_entered_) return;
  is_entered_ = false;
  // Another thread may be in the midst of making something there, and goes no
  // further when the process ends: then whoever comes next sweeps us.
  if (!rendezvous_.stop()) return;
  rendezvous_.leave(self_.gid);
  fabric_.remove_device(self_.gid);
}

error_code stack::open() noexcept {
  const result<dibs::fabric> fabric = dibs::fabric::open(settings_.fabric.data());
  if (!fabric) return fabric.error();
  fabric_ = *fabric;
  result<dibs::rendezvous> meeting = dibs::rendezvous::open(fabric_);
  if (!meeting) return meeting.error();
  rendezvous_ = std::move(*meeting);
  sweep();

  self_.fabric = dibs::loopback_fabric;
  self_.ueids = settings_.ueids;
  self_.ueid_count = settings_.ueid_count;
  name_host();
  dibs::fill_random(self_.gid.bytes.data(), self_.gid.bytes.size());
  if (const error_code failure = home::create(home_, fabric_, self_.gid, self_.fabric)) {
    return failure;
  }
  const result<dibs::device_number> number = rendezvous_.enter(self_.gid);
  is_entered_ = true;
  if (!number) return number.error();
  result<dibs::event_queues> queues = dibs::event_queues::create(fabric_, self_.gid, *number);
  if (!queues) return queues.error();
  queues_ = std::move(*queues);
  signals_.open(fabric_, rendezvous_);
  device_.emplace(fabric_, self_.gid);
  return {};
}

void stack::sweep() noexcept {
  fabric_.for_each_device([this](const dibs::gid& id) noexcept {
    if (fabric_.is_alive(id)) return;
    rendezvous_.leave(id);
    fabric_.remove_device(id);
  });
  fabric_.remove_strays();
}

void stack::name_host() noexcept {
  self_.host.fill(' ');
  char name[65] = {};
  if (::gethostname(name, sizeof name - 1) == 0) {
    std::copy_n(name, std::min(std::strlen(name), self_.host.size()), self_.host.begin());
  }
}

}  // namespace smcd
