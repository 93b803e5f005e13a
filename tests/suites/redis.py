# SPDX-License-Identifier: Apache-2.0
"""redis's own tests, with the installed programs of the same version.

Server, clients and the test server that drives them all have the library. A unit runs
in a directory of its own, with ports of its own.
"""
import re

import play
import source
import stage

UNITS = """
    unit/auth unit/protocol unit/keyspace unit/scan unit/info unit/info-command
    unit/type/string unit/type/incr unit/type/list unit/type/list-2 unit/type/list-3
    unit/type/set unit/type/zset unit/type/hash unit/type/stream unit/type/stream-cgroups
    unit/sort unit/expire unit/dump unit/scripting unit/other unit/multi unit/quit unit/pubsub
    unit/pubsubshard unit/introspection unit/introspection-2 unit/limits unit/obuf-limits
    unit/querybuf unit/pause unit/wait unit/tracking unit/networking unit/shutdown
    unit/client-eviction integration/block-repl integration/replication
    integration/replication-2 integration/replication-3 integration/replication-4
    integration/replication-psync integration/replication-buffer integration/psync2
    integration/psync2-reg integration/psync2-pingoff integration/failover
    integration/shutdown integration/redis-cli integration/redis-benchmark
""".split()
PROGRAMS = "server", "cli", "benchmark", "check-aof", "check-rdb"
FIRST_PORT, PORTS = 21111, 150
SECONDS = 900
WORDS = {"ok": "passed", "err": "failed", "skip": "skipped", "ignore": "skipped",
         "exception": "failed"}


def prepare():
    stage.need("tclsh", *(f"redis-{program}" for program in PROGRAMS))
    source.fetch("redis")


def parts():
    return list(UNITS)


def part_of(test):
    return test.split(": ", 1)[0]


def directory_of(scene, unit):
    """The suite's tree by links, with its own place for what it writes."""
    origin = source.fetch("redis")
    made = scene.scratch / unit.replace("/", "-")
    if made.exists():
        return made
    for folder in "tests/tmp", "src":
        (made / folder).mkdir(parents=True)
    for entry in *origin.iterdir(), *(origin / "tests").iterdir():
        link = made / entry.relative_to(origin)
        if not link.exists():
            link.symlink_to(entry)
    for program in PROGRAMS:
        (made / f"src/redis-{program}").symlink_to(f"/usr/bin/redis-{program}")
    return made


def read_outcomes(unit, output):
    """A name may come twice, and once failed is failed. Colours are left out."""
    found = {}
    output = re.sub(r"\x1b\[[0-9;]*m", "", output)
    for word, rest in re.findall(r"^\[(\w+)\]: (.*)$", output, re.M):
        if word in WORDS:
            name = re.sub(r" \(\d+ ms\)$| in tests/\S+$", "", rest)
            if found.get(f"{unit}: {name}") != "failed":
                found[f"{unit}: {name}"] = WORDS[word]
    return found


def run(scene, number, unit, under):
    played = play.play(
        scene, SECONDS, under, "env", "-C", directory_of(scene, unit), "tclsh",
        "tests/test_helper.tcl", "--durable", "--clients", 1, "--timeout", 240, "--portcount",
        PORTS, "--baseport", FIRST_PORT + (PORTS + 32) * number, "--single", unit)
    found = read_outcomes(unit, played.output)
    # A failed test makes the status 1; more than that is told here.
    is_good = played.status in (0, 1) and not played.left
    found[f"{unit}: end"] = "passed" if is_good else f"{played.status}, {played.left} left"
    return found
