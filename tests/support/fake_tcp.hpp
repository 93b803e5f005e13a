// SPDX-License-Identifier: Apache-2.0
#pragma once
// A TCP connection in memory: both ends, with the kernel's manners. Bytes are
// first in flight, then they arrive; how many move per call is set by rules.
// Any thread.

#include <smcd/tcp_lane.hpp>

#include <support/random.hpp>
#include <support/require.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <mutex>
#include <span>
#include <vector>

namespace support {

struct fake_tcp_rules {
  static constexpr std::size_t any = std::numeric_limits<std::size_t>::max();

  std::size_t capacity = std::size_t{1} << 20;  // unread bytes that a direction takes
  std::size_t most_sent = any;                  // by one send
  std::size_t most_received = any;              // by one receive or peek
  std::size_t most_arriving = any;              // while the receiving end looks once
  bool is_random = false;  // the maxima are those of random numbers, drawn for each call
  std::uint64_t seed = 1;
};

class fake_tcp {
  struct pipe {
    std::vector<std::byte> bytes;  // from `head` on: `arrived`, then those in flight
    std::size_t head = 0;
    std::size_t arrived = 0;
    bool has_fin = false;  // behind the bytes
    bool has_rst = false;
    bool is_deaf = false;  // the receiving end is closed
    bool is_held = false;  // by the sending kernel: nothing arrives
    std::uint64_t written = 0;
    std::uint64_t read = 0;

    [[nodiscard]] std::size_t size() const { return bytes.size() - head; }
    [[nodiscard]] bool is_all_there() const { return arrived == size(); }
    void drop(std::size_t n) {
      head += n;
      arrived -= n;
      if (head < 4096 || head < bytes.size() / 2) return;
      bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(head));
      head = 0;
    }
  };

 public:
  enum class call { receive, peek, send, unread, hurry, has_hung_up, counters };

  class end final : public smcd::tcp_lane {
   public:
    // ---- the lane

    smcd::result<std::size_t> receive(std::span<std::byte> to) noexcept override {
      enter(call::receive);
      const std::lock_guard guard(*lock_);
      return take(to, false, rules_.most_received);
    }
    smcd::result<std::size_t> peek(std::span<std::byte> to) noexcept override {
      enter(call::peek);
      const std::lock_guard guard(*lock_);
      return take(to, true, rules_.most_received);
    }
    smcd::result<std::size_t> receive_parts(std::span<const iovec> to,
                                            bool is_peek) noexcept override {
      std::size_t size = 0;
      for (const iovec& part : to) size += part.iov_len;
      std::vector<std::byte> bytes(size);
      const smcd::result<std::size_t> got = is_peek ? peek(bytes) : receive(bytes);
      const std::byte* from = bytes.data();
      std::size_t left = got ? *got : 0;
      for (const iovec& part : to) {
        const std::size_t n = std::min(left, part.iov_len);
        if (n > 0) std::memcpy(part.iov_base, from, n);
        from += n;
        left -= n;
      }
      return got;
    }
    smcd::result<std::size_t> send(std::span<const std::byte> from) noexcept override {
      enter(call::send);
      const std::lock_guard guard(*lock_);
      return put(from, rules_.most_sent);
    }
    std::size_t unread() noexcept override {
      enter(call::unread);
      const std::lock_guard guard(*lock_);
      arrive();
      return in_->arrived;
    }
    void hurry() noexcept override {
      enter(call::hurry);
      const std::lock_guard guard(*lock_);
      in_->is_held = false;
    }
    bool has_hung_up() noexcept override {
      enter(call::has_hung_up);
      const std::lock_guard guard(*lock_);
      arrive();
      return in_->is_all_there() && (in_->has_fin || in_->has_rst);
    }
    bool counters(std::uint64_t& written, std::uint64_t& read) noexcept override {
      enter(call::counters);
      const std::lock_guard guard(*lock_);
      written = out_->written;
      read = in_->read;
      return knows_counters;
    }
    bool identify(smcd::socket_identity& to) noexcept override {
      to = identity;
      return true;
    }
    bool may_leave_tcp() noexcept override { return may_leave; }
    std::uint32_t wanted_buffer() noexcept override { return buffer; }

    // ---- the program's side

    void shutdown_write() {
      const std::lock_guard guard(*lock_);
      out_->has_fin = true;
    }
    // Both directions: only bytes that come after it make it a reset.
    void shutdown_both() {
      const std::lock_guard guard(*lock_);
      (in_->is_all_there() ? out_->has_fin : out_->has_rst) = true;
      in_->is_deaf = true;
    }
    // The kernel's close: bytes that nobody will read make it a reset.
    void close() {
      const std::lock_guard guard(*lock_);
      in_->is_deaf = true;
      (in_->size() > 0 ? out_->has_rst : out_->has_fin) = true;
    }
    void reset() {
      const std::lock_guard guard(*lock_);
      in_->is_deaf = true;
      out_->has_rst = true;
    }
    // I/O that nobody could intercept. Moves all or as much as there is.
    std::size_t hidden_send(std::span<const std::byte> from) {
      const std::lock_guard guard(*lock_);
      return value_or(put(from, fake_tcp_rules::any), std::size_t{0});
    }
    std::size_t hidden_receive(std::span<std::byte> to) {
      const std::lock_guard guard(*lock_);
      in_->arrived = in_->size();
      return value_or(take(to, false, fake_tcp_rules::any), std::size_t{0});
    }

    // ---- the test's side

    [[nodiscard]] std::uint64_t written() const {
      const std::lock_guard guard(*lock_);
      return out_->written;
    }
    [[nodiscard]] std::uint64_t read() const {
      const std::lock_guard guard(*lock_);
      return in_->read;
    }
    // Bytes on their way to this end or waiting for it.
    [[nodiscard]] std::size_t pending() const {
      const std::lock_guard guard(*lock_);
      return in_->size();
    }
    // Nagle's algorithm: what this end sends is held back until the peer hurries.
    void hold_back() {
      const std::lock_guard guard(*lock_);
      out_->is_held = true;
    }
    [[nodiscard]] bool is_reset() const {
      const std::lock_guard guard(*lock_);
      return in_->has_rst;
    }
    fake_tcp_rules& rules() { return rules_; }
    smcd::socket_identity identity;
    bool knows_counters = true;
    bool may_leave = true;     // no socket option forbids it
    std::uint32_t buffer = 0;  // SO_RCVBUF, if the program set it
    // Runs before each call of the lane, for what happens meanwhile elsewhere.
    std::function<void(call)> before;
    std::atomic<std::uint64_t> calls{0};  // of the lane

   private:
    friend class fake_tcp;

    void enter(call what) noexcept {
      ++calls;
      if (!before) return;
      // What it does may call the lane of this very end again.
      std::function<void(call)> once;
      std::swap(once, before);
      once(what);
      if (!before) std::swap(once, before);
    }

    std::size_t draw(std::size_t most, std::size_t least) {
      if (!rules_.is_random || most == fake_tcp_rules::any) return most;
      return random_.between(least, most);
    }
    void arrive() {
      if (in_->is_held) return;
      const std::size_t n = draw(rules_.most_arriving, 0);
      in_->arrived += std::min(n, in_->size() - in_->arrived);
    }

    // The kernel tells of a reset once, to whoever asks first; then it is EPIPE
    // for writers and the end for readers.
    smcd::result<std::size_t> take(std::span<std::byte> to, bool is_peek, std::size_t most) {
      arrive();
      const std::size_t n = std::min({to.size(), in_->arrived, draw(most, 1)});
      if (n > 0) {
        std::copy_n(in_->bytes.begin() + static_cast<std::ptrdiff_t>(in_->head), n, to.begin());
        if (!is_peek) {
          in_->drop(n);
          in_->read += n;
        }
        return n;
      }
      if (in_->is_all_there() && in_->has_rst) {
        if (!was_told_) {
          was_told_ = true;
          return dibs::system_error(ECONNRESET);
        }
        return std::size_t{0};
      }
      if (in_->is_all_there() && in_->has_fin) return std::size_t{0};
      return dibs::would_block();
    }
    smcd::result<std::size_t> put(std::span<const std::byte> from, std::size_t most) {
      if (in_->has_rst) {
        if (!was_told_) {
          was_told_ = true;
          return dibs::system_error(ECONNRESET);
        }
        return dibs::system_error(EPIPE);
      }
      if (out_->has_fin || out_->has_rst) return dibs::system_error(EPIPE);
      const std::size_t room = rules_.capacity - std::min(rules_.capacity, out_->size());
      const std::size_t n = std::min({from.size(), room, draw(most, 1)});
      if (n == 0 && !from.empty()) return dibs::would_block();
      out_->written += n;
      if (out_->is_deaf) {
        in_->has_rst = true;
        return n;
      }
      out_->bytes.insert(out_->bytes.end(), from.begin(),
                         from.begin() + static_cast<std::ptrdiff_t>(n));
      return n;
    }

    std::mutex* lock_ = nullptr;
    pipe* in_ = nullptr;
    pipe* out_ = nullptr;
    fake_tcp_rules rules_;
    random random_{1};
    bool was_told_ = false;
  };

  explicit fake_tcp(const fake_tcp_rules& rules = {}) {
    client.lock_ = server.lock_ = &lock_;
    client.out_ = server.in_ = &upward_;
    client.in_ = server.out_ = &downward_;
    client.rules_ = server.rules_ = rules;
    client.random_ = random(rules.seed);
    server.random_ = random(~rules.seed);
  }
  fake_tcp(const fake_tcp&) = delete;
  fake_tcp& operator=(const fake_tcp&) = delete;

  end client;
  end server;

 private:
  std::mutex lock_;
  pipe upward_;
  pipe downward_;
};

}  // namespace support
