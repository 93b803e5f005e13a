// SPDX-License-Identifier: Apache-2.0
#pragma once
// Enterprise ids: names of 32 characters. Two ends use SMC-D only if they share
// one. A UEID is chosen by users; the SEID of a mainframe is only passed along.

#include <devices/error.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace smcd {

inline constexpr std::size_t eid_size = 32;

// Blank padded, as it stands on the wire. All zero means "none". One that came
// from a peer may hold any bytes; make_eid() makes only well formed ones.
struct eid {
  std::array<char, eid_size> characters{};

  friend constexpr bool operator==(const eid&, const eid&) = default;
  [[nodiscard]] constexpr bool is_none() const noexcept { return *this == eid{}; }

  // Without the padding; empty for "none". Lives as long as this object.
  [[nodiscard]] constexpr std::string_view text() const noexcept {
    if (is_none()) return {};
    const std::string_view all(characters.data(), characters.size());
    return all.substr(0, all.find_last_not_of(' ') + 1);
  }
};
static_assert(sizeof(eid) == eid_size && alignof(eid) == 1);

// True for the text of a UEID: up to 32 of A-Z 0-9 '.' '-', first a letter or
// a digit, no "..". Trailing blanks are padding.
[[nodiscard]] constexpr bool is_ueid(std::string_view text) noexcept {
  if (text.size() > eid_size) return false;
  text = text.substr(0, text.find_last_not_of(' ') + 1);
  const auto is_alphanumeric = [](char c) noexcept {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !text.empty() && is_alphanumeric(text.front()) &&
         text.find("..") == std::string_view::npos &&
         std::all_of(text.begin(), text.end(),
                     [&](char c) noexcept { return is_alphanumeric(c) || c == '.' || c == '-'; });
}

// errc::bad_eid unless is_ueid(text).
[[nodiscard]] dibs::result<eid> make_eid(std::string_view text) noexcept;

// Text that is known to fit: blank padded, not checked otherwise.
[[nodiscard]] constexpr eid padded_eid(std::string_view text) noexcept {
  eid made;
  made.characters.fill(' ');
  std::copy_n(text.data(), std::min(text.size(), eid_size), made.characters.begin());
  return made;
}

// What everybody has who set nothing else, so that SMC-D works out of the box.
inline constexpr eid default_ueid = padded_eid("DIBSOCK-DEFAULT-UEID");
static_assert(is_ueid(default_ueid.text()));

// The first one, in the proposer's order, that exists locally too; null if
// there is none. Points into `proposed`.
[[nodiscard]] const eid* first_common(std::span<const eid> proposed,
                                      std::span<const eid> local) noexcept;

}  // namespace smcd
