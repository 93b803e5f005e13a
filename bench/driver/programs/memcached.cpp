// SPDX-License-Identifier: Apache-2.0
#include <driver/plan.hpp>
#include <driver/programs/all.hpp>

#include <unistd.h>

namespace bench {

void add_memcached(std::vector<question>& to) {
  for (const unsigned clients : {1U, 50U}) {
    program_pair programs;
    programs.name = "memcached";
    programs.needs = {"memcached", "memcaslap"};
    programs.server = [](const meeting& at) {
      arguments made{"memcached", "-l", "127.0.0.1", "-p", at.port, "-t", "1", "-c", "4096"};
      if (::geteuid() == 0) made.insert(made.end(), {"-u", "root"});
      return made;
    };
    programs.client = [=](const meeting& at) {
      return arguments{"memcaslap", "-s", "127.0.0.1:" + at.port,  "-T",
                       "1",         "-c", std::to_string(clients), "-t",
                       "1s"};
    };
    programs.read = [](const std::string& output) {
      figures found;
      add_number(found, "per_second", output, "TPS:");
      add_number(found, "operations", output, "Ops:");
      return found;
    };
    to.push_back({.name = "memcached-c" + std::to_string(clients),
                  .title = "memcached and memcaslap, 1 KiB, 90 % get, " + std::to_string(clients) +
                           " connections",
                  .what = kind::program,
                  .where = placement::free,
                  .connections = clients,
                  .is_detail = clients > 1,
                  .programs = programs});
  }
}

}  // namespace bench
