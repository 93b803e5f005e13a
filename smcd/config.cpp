// SPDX-License-Identifier: Apache-2.0
#include <smcd/config.hpp>

#include <cstdio>
#include <limits>
#include <optional>
#include <span>

namespace smcd {
namespace {

class reader {
 public:
  reader(environment from, config& to) noexcept : from_(from), to_(to) {}

  void text(const char* name, std::span<char> to) noexcept {
    const char* value = from_(name);
    if (value == nullptr) return;
    const std::string_view given(value);
    if (given.size() >= to.size()) return complain(name, "is too long");
    given.copy(to.data(), given.size());
  }

  void flag(const char* name, bool& to) noexcept {
    const char* value = from_(name);
    if (value == nullptr) return;
    const std::string_view given(value);
    if (given == "1" || given == "on") {
      to = true;
    } else if (given == "0" || given == "off" || given.empty()) {
      to = false;
    } else {
      complain(name, "is neither on nor off");
    }
  }

  void number(const char* name, std::uint32_t low, std::uint32_t high, std::uint32_t& to) noexcept {
    const char* value = from_(name);
    if (value == nullptr) return;
    const std::optional<std::uint64_t> given = parse(value);
    if (!given || *given < low || *given > high) return complain(name, "is no number in its range");
    to = static_cast<std::uint32_t>(*given);
  }

  void ueids(const char* name) noexcept {
    const char* value = from_(name);
    if (value == nullptr) return;
    std::string_view rest(value);
    std::array<eid, 4> given{};
    std::uint8_t count = 0;
    while (!rest.empty()) {
      const std::size_t comma = rest.find(',');
      const auto parsed = make_eid(rest.substr(0, comma));
      if (!parsed || count == given.size()) return complain(name, "is no list of up to 4 UEIDs");
      given[count++] = *parsed;
      rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
    }
    if (count == 0) return complain(name, "names no UEID");
    to_.ueids = given;
    to_.ueid_count = count;
  }

 private:
  static std::optional<std::uint64_t> parse(std::string_view text) noexcept {
    std::uint64_t value = 0;
    std::size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9' && digits < 12) {
      value = value * 10 + static_cast<std::uint64_t>(text[digits++] - '0');
    }
    if (digits == 0) return std::nullopt;
    const std::string_view suffix = text.substr(digits);
    if (suffix.empty()) return value;
    if (suffix == "k" || suffix == "K") return value << 10;
    if (suffix == "m" || suffix == "M") return value << 20;
    return std::nullopt;
  }

  void complain(const char* name, const char* what) noexcept {
    std::snprintf(to_.complaint.data(), to_.complaint.size(), "%s %s; the default is used", name,
                  what);
  }

  environment from_;
  config& to_;
};

}  // namespace

config read_config(environment from) noexcept {
  constexpr std::uint32_t any = std::numeric_limits<std::uint32_t>::max();
  config made;
  reader read(from, made);
  read.text("DIBSOCK_FABRIC", made.fabric);
  read.flag("DIBSOCK", made.is_enabled);
  read.flag("DIBSOCK_IO_URING", made.has_io_uring);
  read.flag("DIBSOCK_LOG", made.logs);
  read.ueids("DIBSOCK_UEID");
  read.number("DIBSOCK_BUFFER", 16 * 1024, 4 * 1024 * 1024, made.buffer_size);
  read.number("DIBSOCK_SPIN_US", 0, 1'000'000, made.spin_us);
  read.number("DIBSOCK_SWITCH_CALLS", 0, any, made.switch_calls);
  read.number("DIBSOCK_SWITCH_BYTES", 0, any, made.switch_bytes);
  read.number("DIBSOCK_PATIENCE_US", 0, 60'000'000, made.patience_us);
  return made;
}

}  // namespace smcd
