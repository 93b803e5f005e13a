// SPDX-License-Identifier: Apache-2.0
#include <transport/detail/meeting.hpp>

#include <transport/detail/kernel_lane.hpp>
#include <transport/detail/process.hpp>

namespace dibsock::detail {

connecting_mark::connecting_mark(std::shared_ptr<smcd::stack> stack, int fd,
                                 dibs::inet_address remote) noexcept
    : stack_(std::move(stack)) {
  std::uint64_t netns = 0;
  if (stack_ == nullptr || !netns_of(fd, netns)) return;
  if (remote.is_any()) {
    // The kernel takes this for the loopback address.
    remote.bytes.back() = 1;
    if (remote.is_v4()) remote.bytes[12] = 127;
  }
  entry_ = stack_->meeting().find_listener(netns, remote);
  if (entry_ == nullptr) return;
  state_ = entry_->state.load(std::memory_order_acquire);
  entry_->connecting.fetch_add(1, std::memory_order_seq_cst);
}

connecting_mark::~connecting_mark() {
  if (entry_ != nullptr && entry_->state.load(std::memory_order_acquire) == state_) {
    entry_->connecting.fetch_sub(1, std::memory_order_seq_cst);
  }
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

bool published_listener::may_meet(const smcd::socket_name& accepted) const noexcept {
  if (entry_ == nullptr) return false;
  // In this order: the client's mark goes only after its record came.
  if (entry_->connecting.load(std::memory_order_seq_cst) > 0) return true;
  return stack_->meeting().find({accepted.netns, accepted.remote, accepted.local}).at != nullptr;
}

}  // namespace dibsock::detail
