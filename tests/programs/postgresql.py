# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL, which forks for every connection: postgresql.py DIBSOCK CASE"""
import glob
import hashlib
import re
import signal

from stage import HOST, IS_LONG, SECONDS, START, Lo, free_port, main, need_root, require, skip, \
    wait_until

USER = "postgres"  # the server refuses to be root
ROWS = 100_000


def find_programs():
    """Debian keeps the programs of the server apart from all others."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        skip("there is no PostgreSQL")
    return found[-1]


def serve(stage):
    programs = find_programs()
    need_root()
    stage.become(USER)
    data, port = stage.scratch / "data", free_port()
    stage.start(f"{programs}/initdb", "-D", data, "-A", "trust", "--no-sync", "-E", "UTF8",
                under=False).wait()
    return programs, port, stage.serve(
        port, f"{programs}/postgres", "-D", data, "-p", port, "-c", f"listen_addresses={HOST}",
        "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "dynamic_shared_memory_type=mmap")


def client(stage, programs, name, port, *options):
    return stage.start(f"{programs}/{name}", "-h", HOST, "-p", port, "-U", USER, *options, USER)


def wait_for_start(stage, programs, port):
    """It listens long before it answers."""
    def is_ready():
        return stage.start(f"{programs}/pg_isready", "-q", "-h", HOST, "-p", port,
                           under=False).process.wait(30) == 0
    wait_until("PostgreSQL is ready", is_ready)


def bench(stage):
    """The sum of all balances tells whether all transactions were done whole."""
    programs, port, server = serve(stage)
    wait_for_start(stage, programs, port)
    client(stage, programs, "pgbench", port, "-q", "-i", "-s", 2).wait()
    for mode in "simple", "extended", "prepared":
        bench = client(stage, programs, "pgbench", port, "-n", "-c", 4, "-j", 2, "-M", mode,
                       "-T", SECONDS if IS_LONG else 2)
        stage.require_smcd(port, bench, 4)
        output = bench.wait(SECONDS + 40)
        require("number of failed transactions: 0 " in output, f"pgbench: {output}")
        print(mode, re.search(r"tps = [0-9.]+", output)[0])
    sums = client(stage, programs, "psql", port, "-X", "-A", "-t", "-c",
                  "select (select sum(abalance) from pgbench_accounts) = "
                  "(select sum(delta) from pgbench_history), "
                  "(select sum(bbalance) from pgbench_branches) = "
                  "(select sum(tbalance) from pgbench_tellers)").wait()
    require(sums.strip() == "t|t", f"sums differ: {sums}")
    server.stop(signal.SIGINT)


def copy(stage):
    """A table goes out and comes back in."""
    programs, port, server = serve(stage)
    wait_for_start(stage, programs, port)
    there, back = stage.scratch / "there", stage.scratch / "back"
    lo = Lo()
    psql = client(stage, programs, "psql", port, "-X", "-q", "-v", "ON_ERROR_STOP=1",
                  "-c", "create table numbers (n int, digest text)",
                  "-c", "insert into numbers select n, repeat(md5(n::text), 4) "
                        f"from generate_series(1, {ROWS}) n",
                  "-c", f"\\copy (select * from numbers order by n) to '{there}'",
                  "-c", "truncate numbers",
                  "-c", f"\\copy numbers from '{there}'",
                  "-c", f"\\copy (select * from numbers order by n) to '{back}'",
                  "-c", f"\\! until test -e '{stage.seen}'; do sleep 0.01; done")
    stage.require_smcd(port, psql)
    psql.wait()
    expected = hashlib.sha256()
    for n in range(1, ROWS + 1):
        expected.update(f"{n}\t{hashlib.md5(str(n).encode()).hexdigest() * 4}\n".encode())
    for file in there, back:
        require(hashlib.sha256(file.read_bytes()).digest() == expected.digest(),
                f"{file.name} has other content")
    lo.require_below(0.05, 3 * back.stat().st_size, START)
    server.stop(signal.SIGINT)


main({"bench": bench, "copy": copy})
