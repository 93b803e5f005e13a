// SPDX-License-Identifier: Apache-2.0
#pragma once
// Failure as a value: result<T> for all layers below transport, and the codes
// of the device layer. What the operating system refused is carried as
// {errno, system_category()}, so that it equals the codes of Boost.Asio.

#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>

#include <cerrno>

namespace dibs {

using boost::system::error_code;
template <class T>
using result = boost::system::result<T>;

enum class errc {
  fabric_unusable = 1,  // the directory is missing, foreign, unwritable or of another version
  fabric_full,          // no space left on the fabric for what was asked
  no_dmb_left,          // the device has handed out max_dmbs() already
  unknown_gid,          // no living device of that gid on this fabric
  unknown_token,        // no DMB of that token, or it is not ours to write
  bad_size,             // a size that no DMB can have
};

[[nodiscard]] const boost::system::error_category& dibs_category() noexcept;
[[nodiscard]] error_code make_error_code(errc code) noexcept;

// The reason of the system call that just failed.
[[nodiscard]] inline error_code last_error() noexcept {
  return {errno, boost::system::system_category()};
}

[[nodiscard]] inline error_code system_error(int code) noexcept {
  return {code, boost::system::system_category()};
}

// "Nothing to do now, wait": never an error to report.
[[nodiscard]] inline error_code would_block() noexcept { return system_error(EWOULDBLOCK); }
[[nodiscard]] inline bool is_would_block(const error_code& code) noexcept {
  return code == would_block();
}

}  // namespace dibs

template <>
struct boost::system::is_error_code_enum<dibs::errc> : std::true_type {};
