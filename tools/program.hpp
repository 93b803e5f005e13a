// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which file the kernel will run for a command, and whether the dynamic linker
// will load a library of ours into it.

#include <optional>
#include <string>
#include <string_view>

namespace tools {

enum class obstacle {
  none,
  static_program,  // there is no dynamic linker to ask
  other_class,     // 32 bit instead of 64, or the reverse
  other_machine,
  other_libc,  // a dynamic linker that is not ours
  set_uid,     // runs as somebody else: LD_PRELOAD is ignored
  set_gid,
  capabilities,
};

struct program {
  std::string file;    // the ELF file, for a script that of its interpreter
  std::string script;  // what names that interpreter, or empty
  obstacle why_not = obstacle::none;
};

// The file that execvp() would take for `command`; none if there is none.
[[nodiscard]] std::optional<std::string> find_in_path(const std::string& command);

// Requires a path. What cannot be read or understood has no obstacle: exec
// knows better, and says so.
[[nodiscard]] program inspect(const std::string& path);

// In words that follow the name of the file: "is statically linked".
[[nodiscard]] std::string_view to_text(obstacle) noexcept;

}  // namespace tools
