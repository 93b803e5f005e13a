// SPDX-License-Identifier: Apache-2.0
#pragma once
// Options of one object, on Boost.Program_options, and the values that several
// of them share.

#include <tools/command.hpp>

#include <boost/program_options.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tools {

namespace po = boost::program_options;

// One object's options. Other arguments may stand among them, or the first of
// them ends the options, for a command that has options of its own. "--" always
// ends them.
class options {
 public:
  enum class others : std::uint8_t { anywhere, end_options };

  // `usage` is the line behind "Usage: ".
  explicit options(std::string_view usage, others = others::anywhere);

  // Adds "name,n" as in Boost.Program_options.
  void flag(const char* name, const char* help);
  void value(const char* name, const char* help);

  // False if --help was asked for, and printed. Throws usage_error.
  [[nodiscard]] bool parse(const arguments&);

  [[nodiscard]] bool has(const char* name) const { return found_.count(name) > 0; }
  [[nodiscard]] std::optional<std::string> text(const char* name) const;
  [[nodiscard]] const arguments& rest() const noexcept { return rest_; }

 private:
  std::string usage_;
  others others_;
  po::options_description known_;
  po::variables_map found_;
  arguments rest_;
};

// A number with an optional suffix k or m (1024, 1024 * 1024).
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view) noexcept;
// The same, or usage_error if it isn't one from `low` to `high`.
[[nodiscard]] std::uint64_t size_in_range(std::string_view option, std::string_view text,
                                          std::uint64_t low, std::uint64_t high);

}  // namespace tools
