// SPDX-License-Identifier: Apache-2.0
// Meeting the peer: whether the other end of the TCP connection speaks SMC-D.
#include <smcd/connection.hpp>

#include <devices/chaos.hpp>

namespace smcd {
namespace {

// A client that asked so often without an answer stays on TCP: one load each,
// and a server may be slow.
constexpr std::uint32_t client_tries = 65536;

// A server looks for its client's record at every call at first, then each time
// the calls have grown by an eighth, and after so many no more.
constexpr std::uint32_t server_calls = 512;

}  // namespace

void connection::look_for_peer(tcp_lane& tcp) noexcept {
  if (end()->role == handshake_role::client) {
    look_for_server();
  } else {
    look_for_client(tcp);
  }
}

void connection::look_for_server() noexcept {
  if (!record_.is_current() && !publish_record()) return;
  if (record_.is_joined()) {
    const dibs::lock_guard guard(end()->receiving.lock);
    end()->record_index = stack_->meeting().index_of(record_.at);
    end()->stage.store(end_stage::joined, std::memory_order_release);
  } else if (++end()->tries > client_tries) {
    fall_back(decline_code::peer_no_smc, decline_code::none);
  }
}

bool connection::publish_record() noexcept {
  dibs::rendezvous& meeting = stack_->meeting();
  // A child of fork goes on as itself.
  end()->self = stack_->self().gid;
  record_ = meeting.publish({end()->netns, end()->local, end()->remote}, end()->self,
                            end()->socket_cookie, home_->index_of(end()));
  if (record_.at == nullptr) fall_back(decline_code::no_smcd_v2_device, decline_code::none);
  return record_.at != nullptr;
}

bool connection::is_look_due() const noexcept {
  return end()->role == handshake_role::client ||
         end()->calls.load(std::memory_order_relaxed) >=
             end()->look_at.load(std::memory_order_relaxed);
}

void connection::look_for_client(tcp_lane& tcp) noexcept {
  if (!is_look_due()) return;
  const std::uint32_t calls = end()->calls.load(std::memory_order_relaxed);
  end()->look_at.store(calls + calls / 8 + 1, std::memory_order_relaxed);
  if (dibs::chaos::one_in(4)) return;
  const dibs::record_ref found =
      stack_->meeting().find({end()->netns, end()->remote, end()->local});
  if (found.at == nullptr) {
    // A client that speaks SMC-D and has seen as many bytes would be there.
    const std::uint64_t bytes = end()->sending.offset() + end()->receiving.offset();
    if (calls > server_calls && bytes / 2 >= stack_->settings().switch_bytes) {
      fall_back(decline_code::peer_no_smc, decline_code::none);
    }
    return;
  }
  // Joining permits CLC bytes, which nobody may read who does not know of us.
  if (!saw_everything(tcp)) {
    return fall_back(decline_code::option_unsupported, decline_code::none);
  }
  end()->self = stack_->self().gid;
  // Under the lock: whoever reads the TCP lane from now on knows of marks.
  const dibs::lock_guard guard(end()->receiving.lock);
  if (stack_->meeting().join(found, end()->self, end()->socket_cookie, home_->index_of(end()))) {
    record_ = found;
    end()->record_index = stack_->meeting().index_of(found.at);
    end()->stage.store(end_stage::joined, std::memory_order_release);
  }
}

// Do the kernel's counters agree with ours? If not, bytes went past us, by a
// call that nobody can intercept, and the stream is not ours to switch.
bool connection::saw_everything(tcp_lane& tcp) noexcept {
  const dibs::lock_guard sending(end()->sending.lock);
  const dibs::lock_guard receiving(end()->receiving.lock);
  std::uint64_t written = 0;
  std::uint64_t read = 0;
  if (sending.is_nested() || receiving.is_nested() || !tcp.counters(written, read) ||
      dibs::chaos::one_in(64)) {
    return false;
  }
  const std::uint64_t read_by_us = end()->receiving.tcp_bytes + end()->receiving.extra_bytes;
  // A CLC message that is under way must still be found where it stands.
  if (read > read_by_us) end()->receiving.tcp_bytes += read - read_by_us;
  return read == read_by_us && written == end()->sending.tcp_bytes + end()->sending.extra_bytes;
}

}  // namespace smcd
