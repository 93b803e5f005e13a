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

connecting::connecting(std::shared_ptr<smcd::stack> stack, int fd,
                       dibs::inet_address remote) noexcept
    : stack_(std::move(stack)), fd_(fd) {
  if (stack_ == nullptr || !netns_of(fd, name_.netns)) return;
  if (remote.is_any()) {
    // The kernel takes this for the loopback address.
    remote.bytes.back() = 1;
    if (remote.is_v4()) remote.bytes[12] = 127;
  }
  name_.remote = remote;
  name_.listener = stack_->meeting().expect(name_.netns, remote);
}

connecting::~connecting() {
  if (stack_ != nullptr) stack_->meeting().stop_expecting(name_.listener);
}

introduction connecting::introduce() noexcept {
  const bool may_switch =
      local_address_of(fd_, name_.local) && name_.listener && !name_.local.is_link_local();
  return {stack_, smcd::handshake_role::client, name_, may_switch};
}

void published_listener::publish(std::shared_ptr<smcd::stack> stack, int fd) noexcept {
  if (entry_ != nullptr || stack == nullptr || !netns_of(fd, netns_) ||
      !local_address_of(fd, address_)) {
    return;
  }
  stack_ = std::move(stack);
  owner_ = this_process();
  entry_ = stack_->meeting().publish_listener(netns_, address_, stack_->self().gid);
}

void published_listener::withdraw() noexcept {
  if (entry_ != nullptr && owner_ == this_process()) stack_->meeting().withdraw_listener(entry_);
  entry_ = nullptr;
  stack_ = nullptr;
}

introduction published_listener::introduce(int fd,
                                           const dibs::inet_address& remote) const noexcept {
  if (entry_ == nullptr) return {this_stack(), smcd::handshake_role::server, {}, false};
  dibs::rendezvous& meeting = stack_->meeting();
  smcd::socket_name name{netns_, address_, remote, meeting.ref_of(entry_)};
  // In this order: a client's record comes before it is no longer expected.
  const bool may_switch = (!address_.is_any() || local_address_of(fd, name.local)) &&
                          !name.local.is_link_local() &&
                          (meeting.expects(name.listener) ||
                           meeting.find({name.netns, name.remote, name.local}).at != nullptr);
  return {stack_, smcd::handshake_role::server, name, may_switch};
}

}  // namespace dibsock::detail
