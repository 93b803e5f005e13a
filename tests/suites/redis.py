# SPDX-License-Identifier: Apache-2.0
"""redis's own tests, with the installed programs of the same version.

Server, clients and the test server that drives them all have the library. A unit runs
in a directory of its own, with ports of its own.
"""
import re

import play
import source
import stage

# They send commands on several connections, and fail or wait for ever unless these are read in
# that order. TCP promises none, and lanes that change at random keep none.
NOT_FOR_CHAOS = ("unit/type/stream-cgroups", "unit/type/list", "integration/shutdown",
                 "integration/replication")
PROGRAMS = "server", "cli", "benchmark", "check-aof", "check-rdb"
FIRST_PORT, PORTS = 5111, 100  # 10,000 above each is its cluster port; all below the kernel's own
SECONDS = 1500
WORDS = {"ok": "passed", "err": "failed", "skip": "skipped", "ignore": "skipped",
         "exception": "failed"}


def prepare():
    stage.need("tclsh", *(f"redis-{program}" for program in PROGRAMS))
    source.fetch("redis")


def parts():
    """All units. What they mark large-memory is off by default, and TLS needs a build of its own."""
    helper = (source.fetch("redis") / "tests/test_helper.tcl").read_text()
    return re.search(r"set ::all_tests \{(.*?)\}", helper, re.S).group(1).split()


def part_of(test):
    return test.split(": ", 1)[0]


def link_programs(directory):
    """Where the tests look for them. A sentinel is a server by another name."""
    directory.mkdir()
    for program in PROGRAMS:
        (directory / f"redis-{program}").symlink_to(f"/usr/bin/redis-{program}")
    (directory / "redis-sentinel").symlink_to("/usr/bin/redis-server")


def directory_of(scene, number):
    """The suite's tree by links, with its own place for what it writes. Its name is short: those
    of unix sockets in there may have 107 letters."""
    origin = source.fetch("redis")
    made = scene.scratch / str(number)
    if made.exists():
        return made
    (made / "tests/tmp").mkdir(parents=True)
    link_programs(made / "src")
    for entry in *origin.iterdir(), *(origin / "tests").iterdir():
        link = made / entry.relative_to(origin)
        if not link.exists():
            link.symlink_to(entry)
    return made


def without_colours(output):
    return re.sub(r"\x1b\[[0-9;]*m", "", output)


def how_it_ended(played):
    """A failed test makes the status 1; more than that is told here."""
    is_good = played.status in (0, 1) and not played.left
    return "passed" if is_good else f"{played.status}, {played.left} left"


def read_outcomes(unit, output):
    """A name may come twice, and once failed is failed. Which server it is about may be chance,
    and how many rounds fit into the seconds of a test."""
    found = {}
    for word, rest in re.findall(r"^\[(\w+)\]: (.*)$", without_colours(output), re.M):
        if word in WORDS:
            name = re.sub(r" \(\d+ ms\)$| in tests/\S+$", "", rest)
            name = re.sub(r"#\d+|x = \d+|CYCLE \d+", "N", name)
            if found.get(f"{unit}: {name}") != "failed":
                found[f"{unit}: {name}"] = WORDS[word]
    return found


def run(scene, number, unit, under):
    played = play.play(
        scene, SECONDS, under, "env", "-C", directory_of(scene, number), "tclsh",
        "tests/test_helper.tcl", "--durable", "--clients", 1, "--timeout", 600, "--portcount",
        PORTS, "--baseport", FIRST_PORT + (PORTS + 32) * number, "--single", unit)
    found = read_outcomes(unit, played.output)
    found[f"{unit}: end"] = how_it_ended(played)
    return found
