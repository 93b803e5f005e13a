// SPDX-License-Identifier: Apache-2.0
#include "pair.hpp"

#include "books.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstring>

namespace oracle {
namespace {

using clock_type = std::chrono::steady_clock;
constexpr auto patience = std::chrono::seconds(4);

std::string ending(std::size_t process, int status) {
  return std::string("process ") + (process == A ? "A" : "B") +
         (WIFSIGNALED(status) ? " ended by signal " + std::to_string(WTERMSIG(status))
                              : " ended with status " + std::to_string(WEXITSTATUS(status)));
}

}  // namespace

pair::pair(std::string player, std::string library)
    : player_(std::move(player)), library_(std::move(library)) {
  // Players have no other descriptors than 0 to 2, and this one as 3.
  const int fd = ::memfd_create("page", 0);
  page_fd_ = ::fcntl(fd, F_DUPFD_CLOEXEC, 100);
  ::close(fd);
  support::require(page_fd_ >= 0 && ::ftruncate(page_fd_, sizeof(page)) == 0, "a page");
  void* memory = ::mmap(nullptr, sizeof(page), PROT_READ | PROT_WRITE, MAP_SHARED, page_fd_, 0);
  support::require(memory != MAP_FAILED, "a page is mapped");
  page_ = static_cast<page*>(memory);
  if (!library_.empty()) fabric_.emplace();
}

pair::~pair() {
  stop();
  ::munmap(page_, sizeof(page));
  ::close(page_fd_);
}

void pair::start(std::size_t process) {
  const pid_t pid = ::fork();
  support::require(pid >= 0, "fork");
  if (pid != 0) {
    pids_[process] = pid;
    return;
  }
  if (!library_.empty()) {
    ::setenv("LD_PRELOAD", library_.c_str(), 1);
    ::setenv("DIBSOCK_FABRIC", fabric_->directory().c_str(), 1);
    for (const std::string& one : environment_) ::putenv(const_cast<char*>(one.c_str()));
  }
  const int fd = ::dup2(page_fd_, 3);
  ::execl(player_.c_str(), player_.c_str(), std::to_string(fd).c_str(),
          std::to_string(process).c_str(), nullptr);
  ::_exit(127);
}

void pair::stop() {
  // Children first: a process that is killed leaves them to us.
  for (std::size_t child = 2; child < process_count; ++child) {
    if (page_->processes[child].is_alive.load() != 0) ::kill(page_->processes[child].pid, SIGKILL);
    page_->processes[child].is_alive.store(0);
  }
  for (pid_t& pid : pids_) {
    if (pid <= 0) continue;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    pid = 0;
  }
}

void pair::reset(const program& of) {
  support::require(of.steps.size() < max_steps, "the program fits");
  std::memset(static_cast<void*>(page_), 0, sizeof(page));
  page_->driver_pid = ::getpid();
  page_->address_salt = static_cast<std::uint32_t>(::getpid()) * 31 + ++programs_;
  page_->step_count = static_cast<std::uint32_t>(of.steps.size());
  std::copy(of.steps.begin(), of.steps.end(), page_->steps.begin());
  for (process_book& one : page_->processes) {
    one.slots.fill(-1);
    one.things.fill(-1);
  }
  for (entry& one : page_->log) one.error = untouched;
  for (const std::size_t process : {A, B}) {
    page_->actors[process].store(1);
    page_->processes[process].is_alive.store(1);
  }
}

std::uint64_t pair::progress() const {
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < page_->step_count; ++i) sum += page_->log[i].at.load();
  for (std::uint32_t i = 0; i < page_->end_count; ++i) {
    sum += page_->ends[i].written.load() + page_->ends[i].read.load();
  }
  return sum;
}

std::string pair::tell_hang() const {
  std::string text = "hangs at";
  for (std::uint32_t i = 0; i < page_->step_count; ++i) {
    if (page_->log[i].at.load() == status::running) text += " step " + std::to_string(i);
  }
  return text;
}

std::string pair::death_of_players() {
  for (const std::size_t process : {A, B}) {
    int status = 0;
    if (pids_[process] <= 0 || ::waitpid(pids_[process], &status, WNOHANG) <= 0) continue;
    pids_[process] = 0;
    return ending(process, status);
  }
  return {};
}

void pair::kill_step(std::uint32_t number) {
  const auto process = static_cast<std::size_t>(page_->steps[number].args[0]);
  entry& log = page_->log[number];
  if (process < 2 && page_->processes[process].is_alive.load() != 0 &&
      books(*page_, process).may_die()) {
    let_look(*page_, process);
    ::kill(pids_[process], SIGKILL);
    ::waitpid(pids_[process], nullptr, 0);
    pids_[process] = 0;
    books(*page_, process).died(process, true);
    // A writer to a DMB asks once in a millisecond whether its peer lives.
    ::usleep(1500);
  }
  finish_entry(log, status::done);
  pass_baton(*page_, number + 1);
}

// Until the last step was taken. What is wrong, if anything.
std::string pair::follow(const program& of) {
  std::uint64_t seen = 0;
  auto since = clock_type::now();
  std::atomic<std::uint32_t>& word = page_->orders[driver];
  pass_baton(*page_, 0);
  for (;;) {
    const std::uint32_t wanted = word.exchange(0);
    if (wanted == of.steps.size() + 1) return {};
    if (wanted != 0) {
      kill_step(wanted - 1);
      continue;
    }
    await_change(word, 0, 100);
    if (word.load() != 0) continue;
    if (const std::string dead = death_of_players(); !dead.empty()) return dead;
    const auto now = clock_type::now();
    if (const std::uint64_t sum = progress(); sum != seen) {
      seen = sum;
      since = now;
    }
    if (now - since > patience) return tell_hang();
  }
}

std::string pair::clean_up() {
  std::atomic<std::uint32_t>& word = page_->orders[driver];
  for (std::size_t child = 2; child < process_count; ++child) {
    if (page_->processes[child].is_alive.load() == 0) continue;
    order(*page_, child, page::leave);
    if (pids_[child - 2] == 0) ::waitpid(page_->processes[child].pid, nullptr, 0);
  }
  for (const std::size_t process : {A, B}) {
    if (pids_[process] == 0) continue;
    order(*page_, process, page::clean_up);
    const auto since = clock_type::now();
    while (word.exchange(0) != page::clean_up) {
      await_change(word, 0, 100);
      if (const std::string dead = death_of_players(); !dead.empty()) return dead + " at the end";
      if (clock_type::now() - since > patience) return "hangs at the end";
    }
  }
  for (std::size_t child = 2; child < process_count; ++child) {
    page_->processes[child].is_alive.store(0);
  }
  return {};
}

outcome pair::run(const program& of) {
  if (of.environment != environment_) {
    stop();
    environment_ = of.environment;
  }
  reset(of);
  for (const std::size_t process : {A, B}) {
    if (pids_[process] == 0) start(process);
  }
  outcome made;
  made.trouble = follow(of);
  for (std::size_t i = 0; i < of.steps.size(); ++i) {
    const entry& log = page_->log[i];
    outcome::line line{log.at.load(), log.value, log.error, log.hash, log.signals, {}, log.late};
    line.extra.assign(log.extra.begin(), log.extra.begin() + log.extra_count);
    made.lines.push_back(std::move(line));
  }
  made.stuck = page_->stuck;
  made.unsettled = page_->unsettled;
  for (const end_book& end : page_->ends) made.saved += end.most_saved.load();
  if (made.trouble.empty()) made.trouble = clean_up();
  if (!made.trouble.empty()) stop();
  return made;
}

}  // namespace oracle
