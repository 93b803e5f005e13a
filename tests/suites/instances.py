# SPDX-License-Identifier: Apache-2.0
"""redis's tests of many servers: a cluster of 20, and sentinels that watch over some.

Their ports are fixed, so that one part runs at a time.
"""
import re
import shutil
import threading

import play
import redis
import source
import stage

SECONDS = 900
ALONE = threading.Lock()


def read_outcomes(part, output):
    """A line is "time> name: OK", perhaps with other words on it. A name may come twice, and
    once failed is failed. Which servers it is about may be chance."""
    found = {}
    for told in re.split(r"^\d\d:\d\d:\d\d> ", output, flags=re.M)[1:]:
        name = part + ": " + re.sub(r"(127\.0\.0\.1:)?\d+", "N", told.split(": ")[0])
        if found.get(name) != "failed":
            found[name] = "failed" if "FAILED" in told else "passed"
    return found


class Suite:
    """A part is one file of tests, which starts all servers anew."""

    def __init__(self, kind):
        self.kind = kind

    @property
    def NOT_FOR_CHAOS(self):
        """A sentinel ends itself when a socket that was told writable is full: redis 7.0's hiredis
        takes that for an error without a reason. And one file counts on a link that is as fast
        as the others."""
        return self.parts() if self.kind == "sentinel" else ["cluster/24-links"]

    def prepare(self):
        stage.need("tclsh", "ps", "redis-server", "redis-cli")
        source.fetch("redis")

    def parts(self):
        files = (source.fetch("redis") / f"tests/{self.kind}/tests").glob("*.tcl")
        return [f"{self.kind}/{file.stem}" for file in sorted(files)]

    def part_of(self, test):
        return test.split(": ", 1)[0]

    def directory(self, scene):
        """A copy of the tests, which find their way by the names of directories above them."""
        made = scene.scratch / self.kind
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(source.fetch("redis") / "tests", made / "tests", symlinks=True)
        (made / f"tests/{self.kind}/tmp").mkdir(exist_ok=True)
        redis.link_programs(made / "src")
        return made

    def run(self, scene, number, part, under):
        with ALONE:
            played = play.play(scene, SECONDS, under, "env", "-C", self.directory(scene), "tclsh",
                               f"tests/{self.kind}/run.tcl", "--single", f"/{part.split('/')[1]}.tcl")
        found = read_outcomes(part, redis.without_colours(played.output))
        found[f"{part}: end"] = redis.how_it_ended(played)
        return found
