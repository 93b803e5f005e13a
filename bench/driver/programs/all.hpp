// SPDX-License-Identifier: Apache-2.0
#pragma once
// The questions that real programs answer.

#include <vector>

namespace bench {

struct question;

void add_iperf3(std::vector<question>&);
void add_sockperf(std::vector<question>&);
void add_redis(std::vector<question>&);
void add_nginx(std::vector<question>&);
void add_memcached(std::vector<question>&);
void add_postgresql(std::vector<question>&);

inline void add_programs(std::vector<question>& to) {
  add_iperf3(to);
  add_sockperf(to);
  add_redis(to);
  add_nginx(to);
  add_memcached(to);
  add_postgresql(to);
}

}  // namespace bench
