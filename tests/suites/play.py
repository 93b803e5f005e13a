# SPDX-License-Identifier: Apache-2.0
"""One process of a suite, from start to end."""
import collections
import subprocess
import threading

import stage

Played = collections.namedtuple("Played", "status output left")
START = threading.Lock()  # the stage numbers its programs


def play(scene, seconds, under, *command):
    """Its status or "hangs", what it printed, and how many processes it left."""
    with START:
        program = scene.start(*command, under=under)
    try:
        status = program.process.wait(seconds)
    except subprocess.TimeoutExpired:
        status = "hangs"
    left = len(stage.group_members(program.process.pid))
    program.kill()
    return Played(status, program.output(), left)
