// SPDX-License-Identifier: Apache-2.0
#pragma once
// The end of `dibsock perf` that answers.

#include <tools/perf/transports.hpp>

namespace tools::perf {

// Serves until it is stopped: one client after the other, or each in a thread
// of its own. Throws std::runtime_error if it cannot listen.
template <class Transport>
void serve(const place&, bool is_parallel);

}  // namespace tools::perf
