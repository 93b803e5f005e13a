// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the parts of dibsock are that this command needs.

#include <string>

namespace tools {

[[nodiscard]] std::string directory_of_this_program();

// The preload library: where DIBSOCK_PRELOAD says, or beside this program,
// whether built or installed, or where it would be installed. Throws
// std::runtime_error.
[[nodiscard]] std::string find_library();

}  // namespace tools
