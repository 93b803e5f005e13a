// SPDX-License-Identifier: Apache-2.0
// oracle PLAYER LIBRARY [CASE...]: runs random programs, or those of files, on
// the kernel's TCP and under the preload library. What a program sees must be
// the same. SEED and ROUNDS choose the programs.
#include "generate.hpp"
#include "pair.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace {

using namespace oracle;

struct tally {
  std::uint64_t programs = 0;
  std::uint64_t steps = 0;
  std::uint64_t over_memory = 0;   // programs of which bytes left TCP
  std::uint64_t undetermined = 0;  // the kernel itself gave two answers
  std::uint64_t once = 0;          // a difference that did not come again
  std::uint64_t differences = 0;
};

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

std::string to_text(const outcome::line& of) {
  constexpr const char* names[] = {"not reached", "skipped", "running", "", "killed"};
  if (of.at != status::done) return names[of.at];
  std::ostringstream text;
  text << of.value;
  if (of.value == -1000) return "left out";
  if (of.error != untouched) text << " errno " << of.error;
  for (const std::int64_t one : of.extra) text << ' ' << std::hex << one << std::dec;
  if (of.hash != 0) text << " #" << std::hex << (of.hash & 0xFFFFFF) << std::dec;
  if (of.signals != 0) text << " signals " << of.signals;
  if (of.late != 0) text << " late";
  return text.str();
}

// The library may tell an edge again when a connection changes its lane: what
// it tells must be true then.
bool is_same_line(const step& of, outcome::line kernel, outcome::line other) {
  if (of.what == op::epoll_wait) {
    for (std::int64_t& event : kernel.extra) event &= ~true_edge;
    std::vector<std::int64_t> edges;
    std::vector<std::int64_t> told;
    for (const std::int64_t event : other.extra) {
      ((event & true_edge) != 0 ? edges : told).push_back(event & ~true_edge);
    }
    // Entries of a set may have the same data.
    for (const std::int64_t edge : edges) {
      if (std::count(told.begin(), told.end(), edge) <
          std::count(kernel.extra.begin(), kernel.extra.end(), edge)) {
        told.push_back(edge);
      }
    }
    other.extra = told;
    std::sort(kernel.extra.begin(), kernel.extra.end());
    std::sort(other.extra.begin(), other.extra.end());
  }
  return kernel == other;
}

bool is_same(const program& of, const outcome& kernel, const outcome& other) {
  for (std::size_t i = 0; i < of.steps.size(); ++i) {
    if (!is_same_line(of.steps[i], kernel.lines[i], other.lines[i])) return false;
  }
  return kernel.trouble == other.trouble;
}

void print(const program& of, const outcome& plain, const outcome& shim) {
  for (const std::string& one : of.environment) std::printf("env %s\n", one.c_str());
  for (std::size_t i = 0; i < of.steps.size(); ++i) {
    const bool differs = !is_same_line(of.steps[i], plain.lines[i], shim.lines[i]);
    std::printf("%s %3zu  %-72s | %-36s", differs ? ">>" : "  ", i, to_text(of.steps[i]).c_str(),
                to_text(plain.lines[i]).c_str());
    std::printf(differs ? "| %s\n" : "\n", to_text(shim.lines[i]).c_str());
  }
  if (!plain.trouble.empty()) std::printf("plain: %s\n", plain.trouble.c_str());
  if (!shim.trouble.empty()) std::printf("shim: %s\n", shim.trouble.c_str());
}

class comparison {
 public:
  comparison(const std::string& player, const std::string& library)
      : plain_(player, ""), shim_(player, library) {}

  // Both at the same time: each is mostly one process that waits for another.
  bool run(const program& of) {
    std::thread other([&] { ours = plain_.run(of); });
    theirs = shim_.run(of);
    other.join();
    return is_same(of, ours, theirs);
  }
  void renew() {
    plain_.stop();
    shim_.stop();
  }
  [[nodiscard]] outcome plain_again(const program& of) { return plain_.run(of); }

  outcome ours;
  outcome theirs;

 private:
  pair plain_;
  pair shim_;
};

// Does it differ, from new processes on or in those that are there, and is the
// kernel of one mind?
bool differs_again(comparison& on, const program& of, int tries, bool anew) {
  for (int i = 0; i < tries; ++i) {
    if (anew) on.renew();
    if (on.run(of) || !on.ours.trouble.empty()) continue;
    if (is_same(of, on.ours, on.plain_again(of))) return true;
  }
  return false;
}

// Without steps that the difference does not need.
program shrink(comparison& on, program of, int tries, bool anew) {
  for (std::size_t piece = of.steps.size() / 2; piece > 0; piece /= 2) {
    for (std::size_t at = 0; at < of.steps.size();) {
      program less = of;
      const auto from = less.steps.begin() + static_cast<std::ptrdiff_t>(at);
      const auto to =
          less.steps.begin() + static_cast<std::ptrdiff_t>(std::min(at + piece, less.steps.size()));
      less.steps.erase(from, to);
      if (differs_again(on, less, tries, anew)) {
        of = less;
      } else {
        at += piece;
      }
    }
  }
  return of;
}

// One program in the course of many. False if it shows a difference.
bool judge(comparison& on, const program& of, const std::string& name, tally& total) {
  ++total.programs;
  total.steps += of.steps.size();
  const auto since = std::chrono::steady_clock::now();
  const bool is_equal = on.run(of) && on.ours.trouble.empty();
  const auto took = std::chrono::steady_clock::now() - since;
  if (std::getenv("VERBOSE") != nullptr && took > std::chrono::milliseconds(100)) {
    std::printf("%s took %lld ms, unsettled %u %u\n", name.c_str(),
                static_cast<long long>(took / std::chrono::milliseconds(1)), on.ours.unsettled,
                on.theirs.unsettled);
    if (std::getenv("WHOLE") != nullptr) print(of, on.ours, on.theirs);
  }
  if (on.theirs.saved > 0) ++total.over_memory;
  if (is_equal) return true;
  const outcome plain = on.ours;
  const outcome shim = on.theirs;
  // The kernel must say the same again, and not for want of a window; the library
  // may stay on TCP with another one.
  if (!plain.trouble.empty() || plain.unsettled > 0 || plain.stuck + shim.stuck > 0 ||
      !is_same(of, plain, on.plain_again(of))) {
    ++total.undetermined;
    if (std::getenv("VERBOSE") != nullptr) {
      std::printf("== %s: not determined\n", name.c_str());
      print(of, plain, on.plain_again(of));
    }
    return true;
  }
  std::printf("== %s: kernel TCP | under the preload library\n", name.c_str());
  const int tries = static_cast<int>(number_from("TRIES", 2));
  const bool is_quick = differs_again(on, of, tries, false);
  if (!is_quick && !differs_again(on, of, tries, true)) {
    ++total.once;
    std::printf("(once only)\n");
    print(of, plain, shim);
    std::fflush(stdout);
    return false;
  } else {
    const program less = std::getenv("WHOLE") != nullptr ? of : shrink(on, of, tries, !is_quick);
    if (differs_again(on, less, 5, true)) {
      print(less, on.ours, on.theirs);
    } else {
      std::printf("(not from new processes on)\n");
      print(of, plain, shim);
    }
  }
  ++total.differences;
  std::fflush(stdout);
  return false;
}

tally run_random(const char* player, const char* library, std::uint64_t first, std::uint64_t rounds,
                 std::uint64_t share, std::uint64_t shares) {
  tally total;
  comparison on(player, library);
  const std::uint64_t most = number_from("DIFFERENCES", 3);
  for (std::uint64_t seed = first; seed < first + rounds; ++seed) {
    const std::uint64_t block = seed / block_size;
    if (block % shares != share) continue;
    if (seed % block_size == 0) on.renew();
    judge(on, generate(seed), "SEED=" + std::to_string(seed), total);
    if (total.differences >= most) break;
  }
  return total;
}

program read_case(const char* file) {
  std::ifstream in(file);
  support::require(in.good(), std::string("a case: ") + file);
  std::ostringstream text;
  text << in.rdbuf();
  return parse(text.str());
}

int run_cases(const char* player, const char* library, char** files, int count) {
  tally total;
  comparison on(player, library);
  for (int i = 0; i < count; ++i) {
    const program of = read_case(files[i]);
    for (std::uint64_t round = number_from("ROUNDS", 5); round > 0; --round) {
      on.renew();
      if (!judge(on, of, files[i], total)) break;
    }
  }
  return total.differences + total.once + total.undetermined == 0 ? 0 : 1;
}

// Several at a time: a program is one process that works at a time.
int run_shares(const char* player, const char* library) {
  const std::uint64_t first = number_from("SEED", static_cast<std::uint64_t>(::getpid()) * 10'000);
  const std::uint64_t rounds = number_from("ROUNDS", std::getenv("SEED") != nullptr ? 1 : 10'000);
  const std::uint64_t shares = rounds < 200 ? 1 : number_from("SHARES", 2);
  std::printf("seeds %llu to %llu\n", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(first + rounds - 1));
  std::fflush(stdout);
  std::vector<std::pair<pid_t, int>> workers;
  for (std::uint64_t share = 0; share < shares; ++share) {
    int ends[2];
    support::require(::pipe2(ends, O_CLOEXEC) == 0, "a pipe");
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      ::prctl(PR_SET_CHILD_SUBREAPER, 1);
      const tally total = run_random(player, library, first, rounds, share, shares);
      const bool is_told = ::write(ends[1], &total, sizeof total) == sizeof total;
      std::fflush(stdout);
      ::_exit(is_told ? 0 : 1);
    }
    ::close(ends[1]);
    workers.emplace_back(pid, ends[0]);
  }
  tally sum;
  bool is_whole = true;
  for (const auto& [pid, from] : workers) {
    tally part;
    is_whole = ::read(from, &part, sizeof part) == sizeof part && is_whole;
    ::waitpid(pid, nullptr, 0);
    sum.programs += part.programs;
    sum.steps += part.steps;
    sum.over_memory += part.over_memory;
    sum.undetermined += part.undetermined;
    sum.once += part.once;
    sum.differences += part.differences;
  }
  const auto show = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf("%llu programs, %llu steps; %llu left TCP, %llu not determined, %llu once, ",
              show(sum.programs), show(sum.steps), show(sum.over_memory), show(sum.undetermined),
              show(sum.once));
  std::printf("%llu differ\n", show(sum.differences));
  // A comparison of TCP with TCP would prove nothing. What differs once and never
  // again is more often TCP's doing than ours; but not often.
  const bool is_meaningful =
      rounds < 200 || (sum.over_memory * 2 > sum.programs &&
                       sum.undetermined * 50 <= sum.programs && sum.once * 1000 <= sum.programs);
  return is_whole && is_meaningful && sum.differences == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  // What differs is printed whole, not in turns with other workers.
  ::setvbuf(stdout, nullptr, _IOFBF, 1 << 20);
  try {
    if (count > 3) return run_cases(arguments[1], arguments[2], arguments + 3, count - 3);
    return run_shares(arguments[1], arguments[2]);
  } catch (const std::exception& wrong) {
    std::fprintf(stderr, "%s\n", wrong.what());
    return 2;
  }
}
