// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a server and a client that others wrote are started, and how the client
// tells what it measured. Both run in a directory of their own.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

// One measurement: figures by name (results.hpp).
using figures = std::map<std::string, double>;

// Where a server and a client meet.
struct meeting {
  bool is_unix = false;  // over a UNIX socket, not over TCP
  std::string port;      // of 127.0.0.1
  std::string path;      // the UNIX socket
};

using arguments = std::vector<std::string>;  // the program, and what it is told

struct program_pair {
  std::string_view name;
  std::vector<std::string> needs;  // programs that must be there
  bool has_unix = false;           // both know UNIX sockets
  std::string user;                // to be if we are root; empty: stay root
  std::string prepare;             // shell commands for once; may be empty
  std::string says_ready;          // part of a line of the server; empty: it listens
  std::function<arguments(const meeting&)> server;
  std::function<arguments(const meeting&)> client;
  // From what the client printed. Leaves out what is not there.
  std::function<figures(const std::string&)> read;
};

// The number behind the first `label` and blanks, times `unit`; a unit of time
// that stands behind the number gives nanoseconds. Adds nothing if there is none.
void add_number(figures& to, const char* figure, std::string_view output, std::string_view label,
                double unit = 1);

}  // namespace bench
