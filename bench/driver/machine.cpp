// SPDX-License-Identifier: Apache-2.0
#include <driver/machine.hpp>

#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <vector>

namespace bench {
namespace {

std::string first_line(const std::string& file) {
  std::ifstream from(file);
  std::string line;
  std::getline(from, line);
  return line;
}

std::string siblings_of(int cpu) {
  return first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                    "/topology/thread_siblings_list");
}

std::string cpu_model() {
  std::ifstream from("/proc/cpuinfo");
  for (std::string line; std::getline(from, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

struct times {
  double busy = 0;
  double all = 0;
};

// Seconds of all CPUs since the machine started.
times cpu_times() {
  std::istringstream line(first_line("/proc/stat"));
  std::string name;
  line >> name;
  std::vector<double> parts;
  for (double part = 0; line >> part;)
    parts.push_back(part / static_cast<double>(::sysconf(_SC_CLK_TCK)));
  times made;
  for (std::size_t i = 0; i < parts.size() && i < 8; ++i) {
    made.all += parts[i];
    if (i != 3 && i != 4) made.busy += parts[i];  // idle, waiting for a disk
  }
  return made;
}

double cpu_of(int who) noexcept {
  double seconds = 0;
  rusage used{};
  ::getrusage(who, &used);
  for (const timeval& part : {used.ru_utime, used.ru_stime}) {
    seconds += static_cast<double>(part.tv_sec) + static_cast<double>(part.tv_usec) / 1e6;
  }
  return seconds;
}
double own_seconds() noexcept { return cpu_of(RUSAGE_SELF) + cpu_of(RUSAGE_CHILDREN); }

}  // namespace

machine look_at_machine() {
  machine made;
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  std::vector<int> usable;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<unsigned>(cpu), &set)) usable.push_back(cpu);
  }
  if (!usable.empty()) made.first_cpu = usable[0];
  // Another core if possible, not the other half of the same one.
  for (const int cpu : usable) {
    if (cpu == made.first_cpu) continue;
    const bool is_other_core = siblings_of(cpu) != siblings_of(made.first_cpu);
    if (!made.second_cpu || is_other_core) made.second_cpu = cpu;
    if (is_other_core) break;
  }
  made.cpu = std::to_string(::sysconf(_SC_NPROCESSORS_ONLN)) + " x " + cpu_model();
  utsname name{};
  ::uname(&name);
  made.kernel = std::string(name.sysname) + " " + name.release;
  return made;
}

double cpu_of_children() noexcept { return cpu_of(RUSAGE_CHILDREN); }

neighbours::neighbours() noexcept {
  const times now = cpu_times();
  busy_ = now.busy;
  all_ = now.all;
  ours_ = own_seconds();
}

double neighbours::share() const noexcept {
  const times now = cpu_times();
  const double others = now.busy - busy_ - (own_seconds() - ours_);
  return now.all > all_ ? std::clamp(others / (now.all - all_), 0.0, 1.0) : 0;
}

}  // namespace bench
