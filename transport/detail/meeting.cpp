// SPDX-License-Identifier: Apache-2.0
#include <transport/detail/meeting.hpp>

#include <transport/detail/kernel_lane.hpp>
#include <transport/detail/process.hpp>

namespace dibsock::detail {

dibs::inet_address key_of(const boost::asio::ip::tcp::endpoint& of) noexcept {
  dibs::inet_address key;
  static_cast<void>(dibs::from_sockaddr(of.data(), static_cast<socklen_t>(of.size()), key));
  return key;
}

bool may_meet(smcd::stack* stack, int fd, const dibs::inet_address& remote) noexcept {
  const auto ask = [fd]() noexcept {
    std::uint64_t netns = 0;
    return netns_of(fd, netns) ? netns : 0;
  };
  return stack != nullptr && stack->may_meet(remote, ask);
}

void published_listener::publish(std::shared_ptr<smcd::stack> stack, int fd) noexcept {
  std::uint64_t netns = 0;
  dibs::inet_address address;
  if (entry_ != nullptr || stack == nullptr || !netns_of(fd, netns) ||
      !local_address_of(fd, address)) {
    return;
  }
  stack_ = std::move(stack);
  owner_ = this_process();
  entry_ = stack_->meeting().publish_listener(netns, address, stack_->self().gid);
}

void published_listener::withdraw() noexcept {
  if (entry_ != nullptr && owner_ == this_process()) stack_->meeting().withdraw_listener(entry_);
  entry_ = nullptr;
  stack_ = nullptr;
}

}  // namespace dibsock::detail
