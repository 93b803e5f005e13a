// SPDX-License-Identifier: Apache-2.0
#pragma once
// A measurement: when to begin, when to end, and what it was like.

#include <worker/clock.hpp>
#include <worker/task.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace bench {

// Times of single rounds, in memory that was touched before.
class samples {
 public:
  samples() : all_(std::size_t{1} << 20) {}

  void add(std::uint64_t taken) noexcept {
    all_[size_++] = static_cast<std::uint32_t>(std::min<std::uint64_t>(taken, UINT32_MAX));
  }
  [[nodiscard]] bool is_full() const noexcept { return size_ == all_.size(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  // Nanoseconds that a share `part` (0 to 1) of all rounds did not exceed.
  [[nodiscard]] double percentile(double part) noexcept {
    if (size_ == 0) return 0;
    const auto rank = static_cast<std::size_t>(part * static_cast<double>(size_ - 1));
    const auto at = all_.begin() + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(all_.begin(), at, all_.begin() + static_cast<std::ptrdiff_t>(size_));
    return *at * ns_per_tick();
  }

 private:
  std::vector<std::uint32_t> all_;
  std::size_t size_ = 0;
};

// How many bytes went through a TCP socket so far; nothing if there is none.
using kernel_counter = std::function<std::optional<std::uint64_t>()>;

class measurement {
 public:
  explicit measurement(const task& how, kernel_counter counter = {})
      : how_(how), counter_(std::move(counter)), end_(ticks() + ticks_of_ms(how.warm_up_ms)) {}

  // Between two rounds: is there another one to come?
  [[nodiscard]] bool again() { return again(last_); }
  // The same, where rounds overlap: the one that ended began then.
  [[nodiscard]] bool again(std::uint64_t began) {
    const std::uint64_t now = ticks();
    if (is_warming_up_) {
      if (now >= end_ && is_warm(now)) begin();
      return true;
    }
    taken_.add(now - began);
    last_ = now;
    return now < end_ && !taken_.is_full() && (how_.rounds == 0 || taken_.size() < how_.rounds);
  }

  // The next round begins now, not when the one before it ended.
  void begin_round() noexcept { last_ = ticks(); }
  // The last round took until now.
  void stop() noexcept { last_ = ticks(); }

  // To be called once, after the last round, while the connection is there.
  void report(std::size_t bytes_per_round, std::size_t messages_per_round = 1) {
    say("cpu", cpu_.share());
    say("per_second", static_cast<double>(taken_.size() * messages_per_round) /
                          (static_cast<double>(last_ - start_) * ns_per_tick() / 1e9));
    say("p50_ns", taken_.percentile(0.5));
    say("p99_ns", taken_.percentile(0.99));
    say("p999_ns", taken_.percentile(0.999));
    const std::optional<std::uint64_t> bytes = count();
    if (!bytes_before_ || !bytes) return;
    say("payload", static_cast<double>(taken_.size() * bytes_per_round));
    say("kernel_bytes", static_cast<double>(*bytes - *bytes_before_));
  }

 private:
  [[nodiscard]] std::optional<std::uint64_t> count() const {
    return counter_ ? counter_() : std::nullopt;
  }

  // A connection that leaves TCP has left it once some rounds used none of it.
  // What does not within the patience is measured as it is, and shows.
  [[nodiscard]] bool is_warm(std::uint64_t now) {
    if (!how_.leaves_tcp || now > end_ + ticks_of_ms(patience_ms)) return true;
    if (++warm_rounds_ % (how_.gap_us > 0 ? 8 : 64) != 0) return false;
    const std::optional<std::uint64_t> bytes = count();
    return std::exchange(last_count_, bytes) == bytes && bytes;
  }

  void begin() {
    is_warming_up_ = false;
    bytes_before_ = count();
    cpu_ = {};
    start_ = last_ = ticks();
    end_ = start_ + ticks_of_ms(how_.time_ms);
  }

  static constexpr std::uint64_t patience_ms = 2000;

  const task& how_;
  kernel_counter counter_;
  samples taken_;
  std::uint64_t warm_rounds_ = 0;
  std::optional<std::uint64_t> last_count_;
  bool is_warming_up_ = true;
  std::uint64_t start_ = 0;
  std::uint64_t last_ = 0;
  std::uint64_t end_;
  cpu_watch cpu_;
  std::optional<std::uint64_t> bytes_before_;
};

}  // namespace bench
