# SPDX-License-Identifier: Apache-2.0
"""One process of a suite, from start to end."""
import collections
import shutil
import subprocess
import threading
import time

import stage

Played = collections.namedtuple("Played", "status output left")
START = threading.Lock()  # the stage numbers its programs
LOGS = None  # the directory to keep what programs print in

GRACE = 10  # for what ends by itself when its parent has


def left_after(group):
    deadline = time.monotonic() + GRACE
    while (left := len(stage.group_members(group))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def play(scene, seconds, under, *command):
    """Its status or "hangs", what it printed, and how many processes it left."""
    with START:
        program = scene.start(*command, under=under)
    try:
        status = program.process.wait(seconds)
    except subprocess.TimeoutExpired:
        status = "hangs"
    left = left_after(program.process.pid)
    program.kill()
    if LOGS:
        shutil.copy(program.log, LOGS)
    return Played(status, program.output(), left)
