// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an operation of a stream attempts, the memory it lives in, and what its
// handler is told.

#include <transport/detail/buffers.hpp>
#include <transport/detail/link.hpp>

#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/recycling_allocator.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace dibsock::detail {

// ---- attempts --------------------------------------------------------------

// Asio calls the end of a stream an error.
[[nodiscard]] inline smcd::result<std::size_t> name_end(smcd::result<std::size_t> got) noexcept {
  if (got && *got == 0) return boost::system::error_code(boost::asio::error::eof);
  return got;
}

template <class Buffers>
struct read_attempt {
  static constexpr side of = side::reading;
  Buffers buffers;

  [[nodiscard]] bool is_idle() const noexcept { return boost::asio::buffer_size(buffers) == 0; }
  smcd::result<std::size_t> operator()(link& from) const noexcept {
    return name_end(from.read(buffer_list(buffers).get()));
  }
  // The same for who will look again.
  smcd::result<std::size_t> first(link& from) const noexcept {
    return name_end(from.read_soon(buffer_list(buffers).get()));
  }
};

template <class Buffers>
struct write_attempt {
  static constexpr side of = side::writing;
  Buffers buffers;

  [[nodiscard]] bool is_idle() const noexcept { return boost::asio::buffer_size(buffers) == 0; }
  smcd::result<std::size_t> operator()(link& to) const noexcept {
    return to.write(buffer_list(buffers).get());
  }
  smcd::result<std::size_t> first(link& to) const noexcept { return (*this)(to); }
};

// Readiness only.
template <side which>
struct wait_attempt {
  static constexpr side of = which;

  [[nodiscard]] bool is_idle() const noexcept { return false; }
  smcd::result<std::size_t> operator()(link& at) const noexcept {
    if (at.is_ready(which)) return std::size_t{0};
    return dibs::would_block();
  }
  smcd::result<std::size_t> first(link& at) const noexcept { return (*this)(at); }
};

// ---- completion ------------------------------------------------------------

// A handler of (error_code, size) or of (error_code).
template <class Handler>
void complete(Handler& handler, const smcd::result<std::size_t>& got) {
  const boost::system::error_code code = got ? boost::system::error_code() : got.error();
  if constexpr (std::is_invocable_v<Handler&&, boost::system::error_code, std::size_t>) {
    std::move(handler)(code, got ? *got : 0);
  } else {
    std::move(handler)(code);
  }
}

// ---- memory ----------------------------------------------------------------

// From the allocator of the handler; else what the thread freed last.
template <class Handler, class Operation>
using memory_of = typename std::allocator_traits<boost::asio::associated_allocator_t<
    Handler, boost::asio::recycling_allocator<void>>>::template rebind_alloc<Operation>;

template <class Operation, class Handler>
[[nodiscard]] Operation* allocate_for(const Handler& handler) {
  memory_of<Handler, Operation> memory(
      boost::asio::get_associated_allocator(handler, boost::asio::recycling_allocator<void>()));
  return std::allocator_traits<memory_of<Handler, Operation>>::allocate(memory, 1);
}

// Ends what was allocated for `handler`, which was moved out of it before: it
// may own the memory that its allocator gives.
template <class Operation, class Handler>
void free_for(const Handler& handler, Operation* what) noexcept {
  memory_of<Handler, Operation> memory(
      boost::asio::get_associated_allocator(handler, boost::asio::recycling_allocator<void>()));
  what->~Operation();
  std::allocator_traits<memory_of<Handler, Operation>>::deallocate(memory, what, 1);
}

}  // namespace dibsock::detail
