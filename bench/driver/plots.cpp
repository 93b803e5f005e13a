// SPDX-License-Identifier: Apache-2.0
// Draws with gnuplot. Its script holds the data too, and stays beside the plots.
#include <driver/child.hpp>
#include <driver/machine.hpp>
#include <driver/report.hpp>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>

namespace bench {
namespace {

struct plot {
  const char* name;
  const char* title;
  const char* unit;
  kind what;
  const char* figure;
  double divisor;
  bool is_per_byte;  // the figure counts messages, the plot bytes
};

constexpr plot plots[] = {
    {"latency", "Round trip, one core each", "us, median (min to max)", kind::ping, "p50_ns", 1e3,
     false},
    {"throughput", "One way, one core each", "GB/s, median (min to max)", kind::stream,
     "per_second", 1e9, true},
};

struct point {
  std::size_t size;
  spread seen;
};

std::vector<point> points_of(const plot& which, const transport& who, const results& in) {
  std::vector<point> made;
  for (const series& one : in.all) {
    if (one.who != &who || one.what->what != which.what || !one.what->is_of_sizes()) continue;
    if (!one.has(which.figure)) continue;
    const double by = (which.is_per_byte ? static_cast<double>(one.what->size) : 1) / which.divisor;
    const spread seen = one.of(which.figure);
    made.push_back({one.what->size, {seen.median * by, seen.min * by, seen.max * by}});
  }
  std::sort(made.begin(), made.end(),
            [](const point& a, const point& b) { return a.size < b.size; });
  return made;
}

// Data and line of each transport that answered for two sizes or more.
void print_sizes(std::ostream& to, const plot& which, const results& in) {
  std::string lines;
  for (std::size_t i = 0; i < transports.size(); ++i) {
    const std::vector<point> points = points_of(which, transports[i], in);
    if (points.size() < 2) continue;
    const std::string name(transports[i].name);
    const std::string data = "$" + std::string(which.name) + "_" + name;
    to << data << " << END\n";
    for (const point& at : points) {
      to << at.size << ' ' << at.seen.median << ' ' << at.seen.min << ' ' << at.seen.max << '\n';
    }
    to << "END\n";
    const std::string colour = std::to_string(i + 1);
    lines += (lines.empty() ? "plot " : ", ") + data + " using 1:2 with linespoints lc " + colour +
             " pt 7 ps 0.5 title '" + name + "', " + data + " using 1:2:3:4 with yerrorbars lc " +
             colour + " pt 7 ps 0.1 notitle";
  }
  if (lines.empty()) return;
  to << "set output '" << which.name << ".svg'\nset title '" << which.title << "'\nset ylabel '"
     << which.unit << "'\n"
     << lines << "\n\n";
}

// How often TCP's figure each real program reaches.
void print_programs(std::ostream& to, const results& in) {
  std::ostringstream rows;
  for (const series& one : in.all) {
    if (one.what->what != kind::program || one.who->name != "tcp") continue;
    rows << one.what->name;
    for (const char* name : {"shim", "unix"}) {
      const series* other = in.find(*one.what, name);
      const double ratio = other != nullptr ? advantage(*other, one) : 0;
      rows << ' ' << (ratio > 0 ? std::to_string(ratio) : "-");
    }
    rows << '\n';
  }
  if (rows.str().empty()) return;
  to << "reset\nset output 'programs.svg'\nset title 'Real programs, times TCP'\n"
        "set style data histogram\nset style fill solid 0.8\nset grid ytics\n"
        "set xtics rotate by -60\nset yrange [0:*]\nset datafile missing '-'\n"
        "$programs << END\n"
     << rows.str()
     << "END\n"
        "plot $programs using 2:xtic(1) title 'shim', '' using 3 title 'unix', "
        "1 with lines lc 0 title 'TCP'\n";
}

}  // namespace

void draw(const std::filesystem::path& directory, const report& of) {
  const std::string gnuplot = find_program("gnuplot");
  if (gnuplot.empty()) throw std::runtime_error("there is no gnuplot");
  {
    std::ofstream script(directory / "plots.gnuplot");
    script << "set terminal svg size 900,600 dynamic background rgb 'white'\n"
              "set logscale x 2\nset logscale y\nset grid\nset key outside right\n"
              "set linetype 5 lc rgb '#555555'\nset linetype 8 lc rgb '#000080'\n"
              "set xlabel 'message, bytes'\nset format x '%.0b %B'\n";
    for (const plot& which : plots) print_sizes(script, which, of.found);
    print_programs(script, of.found);
    if (!script.flush()) throw std::runtime_error("could not be written");
  }
  command made;
  made.program = gnuplot;
  made.arguments = {"plots.gnuplot"};
  made.directory = directory;
  made.says_errors = true;
  child run(made);
  const std::string said = run.read_all(clock::now() + std::chrono::seconds(60));
  if (!run.ended_well()) throw std::runtime_error("gnuplot failed: " + said);
}

}  // namespace bench
