// SPDX-License-Identifier: Apache-2.0
#include <tools/options.hpp>

#include <charconv>
#include <cstddef>
#include <iostream>
#include <limits>

namespace tools {
namespace {

// Does this argument leave its value to the next one?
bool wants_next(const std::string& argument, const po::options_description& known) {
  const auto takes_value = [&](const std::string& name, bool may_abbreviate) {
    const po::option_description* found = known.find_nothrow(name, may_abbreviate);
    return found != nullptr && found->semantic()->max_tokens() > 0;
  };
  if (argument.starts_with("--")) {
    return argument.find('=') == std::string::npos && takes_value(argument.substr(2), true);
  }
  // Several short options in one argument: the first with a value takes the rest.
  for (std::size_t i = 1; i < argument.size(); ++i) {
    if (takes_value({'-', argument[i]}, false)) return i + 1 == argument.size();
  }
  return false;
}

}  // namespace

options::options(std::string_view usage, others where)
    : usage_(usage), others_(where), known_("Options", 78, 50) {
  flag("help,h", "print this text");
}

void options::flag(const char* name, const char* help) { known_.add_options()(name, help); }

void options::value(const char* name, const char* help) {
  known_.add_options()(name, po::value<std::string>()->value_name("VALUE"), help);
}

bool options::parse(const arguments& given) {
  arguments own;
  try {
    for (std::size_t i = 0; i < given.size(); ++i) {
      const bool is_option = given[i].size() > 1 && given[i].front() == '-';
      if (given[i] == "--" || (!is_option && others_ == others::end_options)) {
        const std::size_t first = i + (given[i] == "--" ? 1 : 0);
        rest_.insert(rest_.end(), given.begin() + static_cast<std::ptrdiff_t>(first), given.end());
        break;
      }
      (is_option ? own : rest_).push_back(given[i]);
      if (is_option && wants_next(given[i], known_) && i + 1 < given.size()) {
        own.push_back(given[++i]);
      }
    }
    po::store(po::command_line_parser(own).options(known_).run(), found_);
  } catch (const po::error& failure) {
    throw usage_error(failure.what());
  }
  if (has("help")) {
    std::cout << "Usage: " << usage_ << "\n\n" << known_;
    return false;
  }
  return true;
}

std::optional<std::string> options::text(const char* name) const {
  if (!has(name)) return std::nullopt;
  return found_[name].as<std::string>();
}

std::optional<std::uint64_t> parse_size(std::string_view text) noexcept {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc{} || end - rest > 1) return std::nullopt;
  if (rest == end) return value;
  const unsigned shift = *rest == 'k' || *rest == 'K' ? 10 : *rest == 'm' || *rest == 'M' ? 20 : 0;
  if (shift == 0 || value > std::numeric_limits<std::uint64_t>::max() >> shift) return std::nullopt;
  return value << shift;
}

std::uint64_t size_in_range(std::string_view option, std::string_view text, std::uint64_t low,
                            std::uint64_t high) {
  const std::optional<std::uint64_t> value = parse_size(text);
  if (value && *value >= low && *value <= high) return *value;
  throw usage_error("--" + std::string(option) + " '" + std::string(text) + "' is no number from " +
                    std::to_string(low) + " to " + std::to_string(high) +
                    " (suffix k or m allowed)");
}

}  // namespace tools
