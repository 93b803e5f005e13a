// SPDX-License-Identifier: Apache-2.0
// Rounds of two processes that talk, of which one is killed (-9) at some
// instant. The other one must get the bytes that were sent, in order, then an
// end; and nothing may be left behind.
//   kill_rounds PROGRAM [LIBRARY]    (LIBRARY: loaded into the program)
// ROUNDS=, SEED= in the environment; a failing round names the seed that brings
// it back, as far as time can be brought back.
#include "page.h"
#include "watch.hpp"

#include <devices/chaos.hpp>
#include <devices/rendezvous.hpp>

#include <support/random.hpp>
#include <support/scratch_fabric.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

using clock_type = std::chrono::steady_clock;
using std::chrono::microseconds;

struct driver {
  std::string program;
  std::string library;
  support::scratch_fabric fabric;
  page* shared = nullptr;
  int page_fd = -1;
  std::uint64_t rounds = 0;
  std::uint64_t resets = 0;  // that the program did not cause

  pid_t start(const char* role) const {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    if (!library.empty()) ::setenv("LD_PRELOAD", library.c_str(), 1);
    const std::string fd = std::to_string(page_fd);
    const bool is_end = std::strcmp(role, "sweep") != 0;
    ::execl(program.c_str(), program.c_str(), role, is_end ? fd.c_str() : nullptr, nullptr);
    ::_exit(127);
  }
};

// What a round is about.
enum class kind { idle, handshake, stream, exchange, full, closing, count };

void make_plans(support::random& random, page& shared, kind what, role victim) {
  for (plan& made : shared.plans) {
    made.largest = 1 + random.up_to(64 * 1024);
    made.is_asynchronous = random.below(2);
    made.shuts = random.below(2);
  }
  plan& dying = shared.plans[victim];
  plan& living = shared.plans[1 - victim];
  constexpr std::uint64_t much = std::uint64_t{1} << 40;
  // Millions of bytes one by one take their time. With chaos many of them go over
  // TCP, which takes millions before anybody reads.
  const bool is_stream = what == kind::stream || what == kind::exchange;
  if (what == kind::full || (is_stream && dibs::chaos::is_on())) living.largest += 1000;
  switch (what) {
    case kind::idle:
      dying.to_send = random.below(2000);
      living.to_send = random.below(2000);
      dying.shuts = living.shuts = 0;
      break;
    case kind::handshake:
      dying.largest = living.largest = 8;
      dying.to_send = living.to_send = much;
      break;
    case kind::stream: dying.to_send = much; break;
    case kind::exchange: dying.to_send = living.to_send = much; break;
    case kind::full:
      dying.to_send = much;
      living.reads_late = 1;
      if (random.one_in(2)) {
        living.to_send = much;
        dying.reads_late = 1;
      }
      break;
    case kind::closing:
    case kind::count:
      dying.to_send = random.up_to(100'000);
      living.to_send = random.up_to(100'000);
      dying.exits = random.one_in(4) ? 1 : 0;
      living.exits = random.one_in(4) ? 1 : 0;
      break;
  }
}

void set_environment(support::random& random) {
  const auto set = [](const char* name, std::size_t value) {
    ::setenv(name, std::to_string(value).c_str(), 1);
  };
  set("DIBSOCK_SWITCH_CALLS", random.below(4));
  set("DIBSOCK_BUFFER", std::size_t{16 * 1024} << random.below(5));
  set("DIBSOCK_SPIN_US", random.one_in(2) ? 0 : 20);
  set("DIBSOCK_PATIENCE_US", random.one_in(2) ? 0 : 1000);
}

// A server counts listen and accept. It is not killed in between: a listener
// that dies with a connection in its queue may leave the client waiting for
// ever, on plain TCP as well.
std::uint64_t steps_to_connect(role of) { return of == ROLE_SERVER ? 2 : 1; }

// Until the victim has made so many steps, or makes none any more.
void await_steps(const page& shared, role victim, std::uint64_t wanted) {
  std::uint64_t seen = 0;
  auto since = clock_type::now();
  for (;;) {
    const std::uint64_t steps = word_at(&shared.ends[victim].steps);
    if (steps >= wanted) return;
    const auto now = clock_type::now();
    if (steps != seen) {
      seen = steps;
      since = now;
    }
    // Whoever has no connection yet is not idle, but slow.
    const bool is_connected = steps >= steps_to_connect(victim);
    if (now - since > (is_connected ? microseconds(2000) : microseconds(patience))) return;
    ::usleep(20);
  }
}

// What is wrong with the round; empty if nothing.
std::string run_round(driver& on, std::uint64_t seed) {
  support::random random(seed);
  page& shared = *on.shared;
  std::memset(&shared, 0, sizeof shared);
  shared.seed = static_cast<std::uint32_t>(seed);
  const auto what = static_cast<kind>(random.below(static_cast<std::size_t>(kind::count)));
  const role victim = random.one_in(2) ? ROLE_CLIENT : ROLE_SERVER;
  const role survivor = victim == ROLE_CLIENT ? ROLE_SERVER : ROLE_CLIENT;
  make_plans(random, shared, what, victim);
  set_environment(random);
  const std::uint64_t steps =
      steps_to_connect(victim) + random.up_to(what == kind::handshake ? 16 : 400);
  const auto delay = microseconds(random.up_to(300));

  pid_t pids[ROLES];
  for (const role at : {ROLE_SERVER, ROLE_CLIENT}) pids[at] = on.start(role_names[at]);
  await_steps(shared, victim, steps);
  const auto begin = clock_type::now();
  while (clock_type::now() - begin < delay) {
  }
  ::kill(pids[victim], SIGKILL);
  int status = 0;
  ::waitpid(pids[victim], &status, 0);
  put_word(&shared.ends[victim].is_dead, 1);
  const int ending = status;
  if (!await_exit(pids[survivor], status, &shared.ends[survivor])) return "the survivor hangs";
  if (ending != 0 && ending != SIGKILL) return "before it was killed, the victim " + how(ending);
  if (status != 0) return "the survivor " + how(status);

  const progress& dead = shared.ends[victim];
  const progress& alive = shared.ends[survivor];
  if (alive.received > dead.attempted) return "bytes that nobody sent";
  // Bytes that the victim did not read make the kernel reset the connection,
  // which may cost bytes that the victim's kernel still had to send.
  const bool may_lose = alive.attempted > dead.received || shared.plans[survivor].exits != 0;
  if (may_lose || alive.received >= dead.published) return {};
  // They need not be the program's: a message of the handshake does it too, in
  // the short time in which one is under way.
  if (alive.outcome != ECONNRESET) return "bytes are missing";
  ++on.resets;
  return {};
}

// Everything in the rendezvous belongs to somebody alive: to nobody.
std::string look_at_leftovers(driver& on) {
  int status = 0;
  if (!await_exit(on.start("sweep"), status) || status != 0) return "the sweep failed";
  for (const std::string& name : on.fabric.files()) {
    if (name != "rendezvous") return "left in the fabric: " + name;
  }
  auto meeting = dibs::rendezvous::open_read_only(on.fabric.open());
  if (!meeting) return {};  // nobody came to a fabric
  const std::size_t used = meeting->taken_slots();
  if (used != 0) return std::to_string(used) + " entries left in the rendezvous";
  return ::waitpid(-1, nullptr, WNOHANG) < 0 ? std::string() : "a process is left";
}

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  driver on;
  on.program = arguments[1];
  if (count > 2) on.library = arguments[2];
  ::setenv("DIBSOCK_FABRIC", on.fabric.directory().c_str(), 1);
  on.page_fd = ::memfd_create("page", 0);
  if (on.page_fd < 0 || ::ftruncate(on.page_fd, sizeof(page)) != 0) return 2;
  void* memory = ::mmap(nullptr, sizeof(page), PROT_READ | PROT_WRITE, MAP_SHARED, on.page_fd, 0);
  if (memory == MAP_FAILED) return 2;
  on.shared = static_cast<page*>(memory);

  const std::uint64_t first = number_from("SEED", static_cast<std::uint64_t>(::getpid()) * 10'000);
  const std::uint64_t rounds = number_from("ROUNDS", std::getenv("SEED") != nullptr ? 1 : 1000);
  std::printf("seeds %llu to %llu\n", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(first + rounds - 1));
  std::fflush(stdout);
  for (std::uint64_t seed = first; seed < first + rounds; ++seed) {
    std::string problem = run_round(on, seed);
    ++on.rounds;
    const bool is_last = seed + 1 == first + rounds;
    if (problem.empty() && (seed % 50 == 0 || is_last)) problem = look_at_leftovers(on);
    if (problem.empty()) continue;
    std::fprintf(stderr, "SEED=%llu: %s\n", static_cast<unsigned long long>(seed), problem.c_str());
    tell_state(*on.shared);
    return 1;
  }
  std::printf("%llu resets in the middle of a handshake\n",
              static_cast<unsigned long long>(on.resets));
  return on.resets <= rounds / 50 ? 0 : 1;
}
