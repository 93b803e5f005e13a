// SPDX-License-Identifier: Apache-2.0
#include <smcd/eid.hpp>

#include <smcd/error.hpp>

namespace smcd {

dibs::result<eid> make_eid(std::string_view text) noexcept {
  if (!is_ueid(text)) return make_error_code(errc::bad_eid);
  return padded_eid(text);
}

const eid* first_common(std::span<const eid> proposed, std::span<const eid> local) noexcept {
  const auto found = std::find_if(proposed.begin(), proposed.end(), [&](const eid& one) noexcept {
    // Two empty entries have nothing in common.
    return !one.is_none() && std::find(local.begin(), local.end(), one) != local.end();
  });
  return found == proposed.end() ? nullptr : &*found;
}

}  // namespace smcd
