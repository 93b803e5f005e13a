// SPDX-License-Identifier: Apache-2.0
// Any bytes: decode() stays inside them, its three answers do not contradict
// each other, and what it took for a message survives being encoded again.
#include <smcd/clc.hpp>

#include <cstdlib>

namespace clc = smcd::clc;

namespace {

void expect(bool holds) {
  if (!holds) std::abort();
}

template <class T>
void expect_round_trip(const T& value, bool must_encode) {
  std::array<std::byte, clc::max_message_size> out;
  const std::size_t size = encode(value, out);
  if (size == 0) return expect(!must_encode);
  const clc::decoded again = clc::decode(std::span(out).first(size));
  expect(again.size == size && again.get_if<T>() != nullptr && *again.get_if<T>() == value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto in = std::as_bytes(std::span(data, size));
  const clc::decoded got = clc::decode(in);
  if (got.get_if<clc::invalid>() != nullptr) {
    expect(got.size == 0);
    return 0;
  }
  if (got.get_if<clc::need_more>() != nullptr) {
    expect(got.size > in.size() && got.size <= clc::max_message_size);
    return 0;
  }
  expect(got.size <= in.size() && got.size <= clc::max_message_size);
  expect(clc::decode(in.first(got.size)).what.index() == got.what.index());
  for (std::size_t n = 0; n < got.size; ++n) {
    expect(clc::decode(in.first(n)).get_if<clc::need_more>() != nullptr);
  }
  if (const auto* value = got.get_if<clc::proposal>()) {
    expect(value->ueid_count <= clc::max_ueids && value->device_count <= clc::max_devices);
    expect_round_trip(*value, value->version == 2);
  } else if (const auto* answer = got.get_if<clc::accept_confirm>()) {
    expect_round_trip(*answer, answer->chosen == clc::technology::smcd);
  } else {
    expect_round_trip(*got.get_if<clc::decline>(), true);
  }
  return 0;
}
