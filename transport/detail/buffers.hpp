// SPDX-License-Identifier: Apache-2.0
#pragma once
// Asio's buffer sequences as the protocol's list of buffers.

#include <smcd/ring.hpp>

#include <boost/asio/buffer.hpp>

#include <array>
#include <cstddef>

namespace dibsock::detail {

// As many buffers as one call moves at most; a longer sequence is moved in
// part. Points into the program's memory.
template <class Sequence>
class buffer_list {
 public:
  explicit buffer_list(const Sequence& from) noexcept {
    using buffer = std::conditional_t<boost::asio::is_mutable_buffer_sequence<Sequence>::value,
                                      boost::asio::mutable_buffer, boost::asio::const_buffer>;
    const auto end = boost::asio::buffer_sequence_end(from);
    for (auto at = boost::asio::buffer_sequence_begin(from); at != end && count_ < parts_.size();
         ++at) {
      const buffer part(*at);
      if (part.size() > 0) parts_[count_++] = {const_cast<void*>(part.data()), part.size()};
    }
  }

  [[nodiscard]] bool is_empty() const noexcept { return count_ == 0; }
  [[nodiscard]] smcd::buffers get() const noexcept { return {parts_.data(), count_}; }

 private:
  std::array<iovec, 16> parts_;
  std::size_t count_ = 0;
};

}  // namespace dibsock::detail
