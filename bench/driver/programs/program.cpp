// SPDX-License-Identifier: Apache-2.0
#include <driver/programs/program.hpp>

#include <array>
#include <cstdlib>
#include <utility>

namespace bench {

void add_number(figures& to, const char* figure, std::string_view output, std::string_view label,
                double unit) {
  const std::size_t at = output.find(label);
  if (at == std::string_view::npos) return;
  const std::string text(output.substr(at + label.size(), 64));
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str()) return;
  constexpr std::array<std::pair<std::string_view, double>, 3> times{
      {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}};
  for (const auto& [name, nanoseconds] : times) {
    if (std::string_view(end).starts_with(name)) {
      value *= nanoseconds;
      break;
    }
  }
  to[figure] = value * unit;
}

}  // namespace bench
