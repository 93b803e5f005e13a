// SPDX-License-Identifier: Apache-2.0
#pragma once
// A socket program as a list of steps, and its text. Steps are taken one after
// the other by actors: processes, their threads, their forked children. A step
// names descriptors by slots, variables of a process that threads share and
// fork copies.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace oracle {

enum actor : std::uint8_t {
  A,        // a process
  B,        // another one
  A_child,  // forked by it
  B_child,
  A_thread,
  B_thread,
  driver,  // nobody's program: it kills
  actor_count
};
inline constexpr std::size_t process_count = 4;
[[nodiscard]] constexpr std::size_t process_of(std::size_t actor) {
  return actor < process_count ? actor : actor - process_count;
}

enum class op : std::uint8_t {
  listen,
  connect,
  accept,
  close,
  shutdown,
  dup,
  dup2,
  dup3,
  dupfd,
  nonblock,
  setopt,
  getopt,
  fionread,
  fork,
  spawn,
  exit,
  kill,
  thread,
  read,
  recv,
  recvfrom,
  readv,
  recvmsg,
  preadv2,
  recvmmsg,
  drain,
  take,
  write,
  send,
  sendto,
  writev,
  sendmsg,
  pwritev2,
  sendmmsg,
  sendfile,
  put,
  poll,
  ppoll,
  select,
  pselect,
  epoll_create,
  epoll_ctl,
  epoll_wait,
  count
};

inline constexpr std::size_t arg_count = 8;
struct step {
  std::uint8_t who = 0;
  op what = op::close;
  bool overlaps = false;  // waits while the next step is taken
  std::array<std::int32_t, arg_count> args{};
};

// Places of the arguments in step::args, and their names in texts.
struct op_form {
  const char* name;
  std::array<const char*, arg_count> args;
};
[[nodiscard]] const op_form& form_of(op);

struct program {
  std::vector<std::string> environment;  // NAME=value, of both processes
  std::vector<step> steps;
};

[[nodiscard]] std::string to_text(const step&);
[[nodiscard]] std::string to_text(const program&);
// Throws std::runtime_error with the line that is wrong.
[[nodiscard]] program parse(const std::string& text);

}  // namespace oracle
