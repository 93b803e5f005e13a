// SPDX-License-Identifier: Apache-2.0
#include "program.hpp"

#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace oracle {
namespace {

constexpr std::array<const char*, actor_count> actor_names{
    "A", "B", "A.child", "B.child", "A.thread", "B.thread", "driver"};

constexpr std::array<op_form, static_cast<std::size_t>(op::count)> forms{{
    {"listen", {"slot", "at"}},
    {"connect", {"slot", "at", "nonblock"}},
    {"accept", {"slot", "from", "nonblock"}},
    {"close", {"slot", "call"}},
    {"shutdown", {"slot", "how"}},
    {"dup", {"slot", "to"}},
    {"dup2", {"slot", "to"}},
    {"dup3", {"slot", "to", "flags"}},
    {"dupfd", {"slot", "to", "least"}},
    {"nonblock", {"slot", "on", "call"}},
    {"setopt", {"slot", "level", "name", "value", "more"}},
    {"getopt", {"slot", "level", "name"}},
    {"fionread", {"slot"}},
    {"fork", {}},
    {"spawn", {"how"}},
    {"exit", {}},
    {"kill", {"process"}},
    {"thread", {}},
    {"read", {"slot", "size", "bad"}},
    {"recv", {"slot", "size", "flags", "bad"}},
    {"recvfrom", {"slot", "size", "flags"}},
    {"readv", {"slot", "size", "parts"}},
    {"recvmsg", {"slot", "size", "flags", "parts"}},
    {"preadv2", {"slot", "size", "flags", "parts"}},
    {"recvmmsg", {"slot", "size", "flags", "messages"}},
    {"drain", {"slot", "piece"}},
    {"take", {"slot", "size", "piece", "call"}},
    {"write", {"slot", "size", "bad"}},
    {"send", {"slot", "size", "flags", "bad"}},
    {"sendto", {"slot", "size", "flags"}},
    {"writev", {"slot", "size", "parts"}},
    {"sendmsg", {"slot", "size", "flags", "parts"}},
    {"pwritev2", {"slot", "size", "flags", "parts"}},
    {"sendmmsg", {"slot", "size", "flags", "messages"}},
    {"sendfile", {"slot", "size", "offset"}},
    {"put", {"slot", "size", "piece", "call"}},
    {"poll", {"timeout", "count", "slot0", "events0", "slot1", "events1", "slot2", "events2"}},
    {"ppoll", {"timeout", "count", "slot0", "events0", "slot1", "events1", "slot2", "events2"}},
    {"select", {"timeout", "count", "slot0", "events0", "slot1", "events1", "slot2", "events2"}},
    {"pselect", {"timeout", "count", "slot0", "events0", "slot1", "events1", "slot2", "events2"}},
    {"epoll_create", {"slot"}},
    {"epoll_ctl", {"set", "slot", "do", "events", "data"}},
    {"epoll_wait", {"set", "most", "timeout", "call"}},
}};

bool is_mask(const std::string& name) {
  return name == "flags" || name.compare(0, 6, "events") == 0;
}

template <class Names>
std::size_t index_in(const Names& names, const std::string& name) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] != nullptr && name == names[i]) return i;
  }
  throw std::runtime_error("no such name: " + name);
}

op op_named(const std::string& name) {
  for (std::size_t i = 0; i < forms.size(); ++i) {
    if (name == forms[i].name) return static_cast<op>(i);
  }
  throw std::runtime_error("no such call: " + name);
}

step parse_step(std::istringstream& words) {
  step made;
  std::string word;
  words >> word;
  made.who = static_cast<std::uint8_t>(index_in(actor_names, word));
  words >> word;
  made.what = op_named(word);
  while (words >> word) {
    if (word == "&") {
      made.overlaps = true;
      continue;
    }
    const std::size_t at = word.find('=');
    if (at == std::string::npos) throw std::runtime_error("no value: " + word);
    const std::size_t index = index_in(form_of(made.what).args, word.substr(0, at));
    made.args[index] = static_cast<std::int32_t>(std::strtoll(word.c_str() + at + 1, nullptr, 0));
  }
  return made;
}

}  // namespace

const op_form& form_of(op what) { return forms[static_cast<std::size_t>(what)]; }

std::string to_text(const step& of) {
  const op_form& form = form_of(of.what);
  std::ostringstream text;
  text << actor_names[of.who] << ' ' << form.name;
  for (std::size_t i = 0; i < arg_count && form.args[i] != nullptr; ++i) {
    if (of.args[i] == 0 && i > 0) continue;
    text << ' ' << form.args[i] << '=';
    if (is_mask(form.args[i])) {
      text << "0x" << std::hex << static_cast<std::uint32_t>(of.args[i]) << std::dec;
    } else {
      text << of.args[i];
    }
  }
  if (of.overlaps) text << " &";
  return text.str();
}

std::string to_text(const program& of) {
  std::string text;
  for (const std::string& setting : of.environment) text += "env " + setting + "\n";
  for (const step& one : of.steps) text += to_text(one) + "\n";
  return text;
}

program parse(const std::string& text) {
  program made;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    if (line.compare(0, 4, "env ") == 0) {
      made.environment.push_back(line.substr(4));
      continue;
    }
    try {
      made.steps.push_back(parse_step(words));
    } catch (const std::exception& wrong) {
      throw std::runtime_error(line + ": " + wrong.what());
    }
  }
  return made;
}

}  // namespace oracle
