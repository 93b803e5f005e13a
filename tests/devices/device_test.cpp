// SPDX-License-Identifier: Apache-2.0
#include <devices/device.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using dibs::device;
using dibs::dmb;
using dibs::dmb_token;
using dibs::gid;
using dibs::registry;

namespace {

struct idle_device final : device {
  [[nodiscard]] dibs::fabric_id chid() const noexcept override { return dibs::loopback_fabric; }
  [[nodiscard]] gid id() const noexcept override { return {}; }
  [[nodiscard]] bool query_remote_gid(const gid&) const noexcept override { return false; }
  [[nodiscard]] std::uint32_t max_dmbs() const noexcept override { return 0; }
  [[nodiscard]] dibs::result<dmb> register_dmb(const gid&, std::uint32_t) noexcept override {
    return make_error_code(dibs::errc::no_dmb_left);
  }
  void unregister_dmb(const gid&, dmb_token) noexcept override {}
  [[nodiscard]] dibs::result<dmb> attach_dmb(const gid&, dmb_token) noexcept override {
    return make_error_code(dibs::errc::unknown_token);
  }
  void detach_dmb(const gid&, dmb_token) noexcept override {}
  [[nodiscard]] dibs::error_code move_data(const gid&, dmb_token, std::uint32_t,
                                           std::span<const std::byte>) noexcept override {
    return make_error_code(dibs::errc::unknown_token);
  }
};

struct watching_client final : dibs::client {
  void add_device(device& added) noexcept override { present.push_back(&added); }
  void remove_device(device& removed) noexcept override {
    const auto at = std::find(present.begin(), present.end(), &removed);
    if (at != present.end())
      present.erase(at);
    else
      ++surprises;
  }
  std::vector<device*> present;
  int surprises = 0;
};

using devices = std::vector<device*>;

}  // namespace

TEST_CASE("registry: clients are told of devices that come and go") {
  registry known;
  idle_device one;
  idle_device two;
  watching_client early;
  CHECK(known.register_client(early));
  CHECK(early.present.empty());
  CHECK(known.add_device(one));
  CHECK(early.present == devices{&one});
  CHECK(known.add_device(two));

  watching_client late;
  CHECK(known.register_client(late));
  CHECK(late.present == devices{&one, &two});

  known.remove_device(one);
  CHECK(early.present == devices{&two});
  CHECK(late.present == devices{&two});
  known.remove_device(one);
  CHECK(early.surprises == 0);

  known.unregister_client(late);
  CHECK(late.present.empty());
  known.unregister_client(late);
  CHECK(late.surprises == 0);
  known.remove_device(two);
  CHECK(early.present.empty());
  CHECK(late.surprises == 0);
}

TEST_CASE("registry: places are limited, and come back") {
  registry known;
  std::vector<idle_device> many(registry::max_devices + 1);
  for (std::size_t i = 0; i < registry::max_devices; ++i) CHECK(known.add_device(many[i]));
  CHECK(!known.add_device(many.back()));
  std::vector<watching_client> clients(registry::max_clients + 1);
  for (std::size_t i = 0; i < registry::max_clients; ++i) CHECK(known.register_client(clients[i]));
  CHECK(!known.register_client(clients.back()));
  CHECK(clients.back().present.empty());
  CHECK(clients[0].present.size() == registry::max_devices);
  known.remove_device(many[3]);
  CHECK(known.add_device(many.back()));
  known.unregister_client(clients[2]);
  CHECK(known.register_client(clients.back()));
  CHECK(clients.back().present.size() == registry::max_devices);
}
