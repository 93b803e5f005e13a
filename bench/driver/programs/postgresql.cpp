// SPDX-License-Identifier: Apache-2.0
#include <driver/plan.hpp>
#include <driver/programs/all.hpp>

namespace bench {
namespace {

constexpr const char* user = "postgres";

// A small database, made by a server that nobody else can reach, and that ends
// with the shell.
constexpr const char* make_database =
    "initdb -D data -A trust --no-sync -U postgres || exit 1\n"
    "postgres -D data -c listen_addresses= -c unix_socket_directories=$PWD -c fsync=off &\n"
    "for try in $(seq 200); do pg_isready -q -h $PWD && break; sleep 0.05; done\n"
    "pgbench -h $PWD -U postgres -q -i -s 2 postgres; status=$?\n"
    "kill -INT $!; wait $!; exit $status";

}  // namespace

void add_postgresql(std::vector<question>& to) {
  for (const unsigned clients : {1U, 10U}) {
    const std::string count = std::to_string(clients);
    program_pair programs;
    programs.name = "pgbench";
    programs.needs = {"postgres", "initdb", "pg_isready", "pgbench"};
    programs.has_unix = true;
    programs.user = user;
    programs.prepare = make_database;
    programs.says_ready = "ready to accept connections";
    programs.server = [](const meeting& at) {
      return arguments{"sh", "-c",
                       "exec postgres -D data -p " + at.port +
                           " -c listen_addresses=127.0.0.1 -c unix_socket_directories=$PWD "
                           "-c fsync=off -c dynamic_shared_memory_type=mmap"};
    };
    programs.client = [=](const meeting& at) {
      return arguments{"sh", "-c",
                       std::string("exec pgbench -h ") + (at.is_unix ? "$PWD" : "127.0.0.1") +
                           " -p " + at.port + " -U postgres -n -S -M prepared -T 1 -j 1 -c " +
                           count + " postgres"};
    };
    programs.read = [](const std::string& output) {
      figures found;
      add_number(found, "per_second", output, "tps =");
      add_number(found, "operations", output, "transactions actually processed:");
      return found;
    };
    to.push_back(
        {.name = "pgbench-c" + count,
         .title = "PostgreSQL and pgbench, select only, prepared, " + count + " connections",
         .what = kind::program,
         .where = placement::free,
         .connections = clients,
         .is_detail = clients > 1,
         .programs = programs});
  }
}

}  // namespace bench
