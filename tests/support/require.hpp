// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a test takes for granted. An exception, so that helpers serve tests and
// fuzz targets alike.

#include <stdexcept>
#include <string>

namespace support {

inline void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error("not so: " + what);
}

// Boost 1.81 has no result::value_or.
template <class Result, class T>
T value_or(const Result& from, T otherwise) {
  return from.has_value() ? static_cast<T>(*from) : otherwise;
}

}  // namespace support
