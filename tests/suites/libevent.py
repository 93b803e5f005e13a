# SPDX-License-Identifier: Apache-2.0
"""libevent's own regression tests, each in a process of its own, for each way to wait."""
import re
import subprocess

import play
import source

METHODS = "EPOLL", "POLL", "SELECT"
BUILD = source.CACHE / "libevent/build"
REGRESS = BUILD / "bin/regress"
OPTIONS = ("-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_C_FLAGS=-w", "-DEVENT__LIBRARY_TYPE=STATIC",
           "-DEVENT__DISABLE_OPENSSL=ON", "-DEVENT__DISABLE_BENCHMARK=ON",
           "-DEVENT__DISABLE_SAMPLES=ON")
SECONDS = 60  # a test ends itself after 30, and may be tried again by the suite


def prepare():
    if REGRESS.exists():
        return
    log = source.CACHE / "libevent/log"
    origin = source.fetch("libevent")
    source.call("cmake", "-G", "Ninja", "-S", origin, "-B", BUILD, *OPTIONS,
                directory=origin, log=log)
    source.call("ninja", "-C", BUILD, "regress", directory=origin, log=log)


def parts():
    """A part is METHOD:TEST. Tests that are off by default stay off."""
    listed = subprocess.run([REGRESS, "--list-tests"], capture_output=True, text=True, check=True)
    tests = re.findall(r"^    (\S+)$", listed.stdout, re.M)
    return [f"{method}:{test}" for method in METHODS for test in tests]


def part_of(test):
    return test


def run(scene, number, part, under):
    method, test = part.split(":", 1)
    others = [f"EVENT_NO{other}=yes" for other in METHODS if other != method]
    played = play.play(scene, SECONDS, under, "env", *others, REGRESS, test)
    if played.left:
        outcome = f"{played.left} processes left"
    elif played.status != 0:
        outcome = "hangs" if played.status == "hangs" else "failed"
    else:
        outcome = "passed" if re.search(r"^1 tests ok", played.output, re.M) else "skipped"
    return {part: outcome}
