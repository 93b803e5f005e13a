// SPDX-License-Identifier: Apache-2.0
#include <driver/plan.hpp>
#include <driver/programs/all.hpp>

#include <unistd.h>

namespace bench {
namespace {

std::string configuration(const meeting& at) {
  // The worker must be whoever made the fabric.
  return std::string(::geteuid() == 0 ? "user root;\n" : "") +
         "daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr crit;\n"
         "events { worker_connections 4096; }\n"
         "http {\n"
         "  access_log off; sendfile on; keepalive_requests 1000000000;\n"
         "  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;\n"
         "  uwsgi_temp_path tmp; scgi_temp_path tmp;\n"
         "  server { listen 127.0.0.1:" +
         at.port +
         " backlog=4096; root .; }\n"
         "}\n";
}

figures read_wrk(const std::string& output) {
  figures found;
  add_number(found, "per_second", output, "Requests/sec:");
  add_number(found, "operations", output, "requests in", found["per_second"] / 1e9);
  add_number(found, "p50_ns", output, "50%");
  add_number(found, "p99_ns", output, "99%");
  return found;
}

void add_file(std::vector<question>& to, const std::string& file, const std::string& title,
              bool keeps_alive) {
  for (const unsigned clients : {1U, 50U, 1000U}) {
    const std::string count = std::to_string(clients);
    program_pair programs;
    programs.name = "nginx";
    programs.needs = {"nginx", "wrk"};
    programs.prepare = "head -c 612 /dev/zero > small; head -c 102400 /dev/zero > 100k";
    programs.server = [](const meeting& at) {
      return arguments{"sh", "-c",
                       "cat > nginx.conf << 'END'\n" + configuration(at) +
                           "END\nexec nginx -p . -c nginx.conf -e stderr"};
    };
    programs.client = [=](const meeting& at) {
      // A thousand connections are not all there after a second.
      const char* const time = clients < 1000 ? "-d1s" : "-d3s";
      arguments made{"wrk", "-t1", "-c" + count, time, "--latency"};
      if (!keeps_alive) made.insert(made.end(), {"-H", "Connection: close"});
      made.push_back("http://127.0.0.1:" + at.port + "/" + file);
      return made;
    };
    programs.read = read_wrk;
    to.push_back({.name = "nginx-" + file + "-c" + count + (keeps_alive ? "" : "-close"),
                  .title = "nginx and wrk, " + title + ", " + count + " connections" +
                           (keeps_alive ? "" : ", each for one request"),
                  .what = kind::program,
                  .where = placement::free,
                  .connections = clients,
                  .is_detail = clients > 1 || file != "small" || !keeps_alive,
                  .programs = programs});
  }
}

}  // namespace

void add_nginx(std::vector<question>& to) {
  for (const bool keeps_alive : {true, false}) {
    add_file(to, "small", "612 B", keeps_alive);
    add_file(to, "100k", "100 KiB", keeps_alive);
  }
}

}  // namespace bench
