# SPDX-License-Identifier: Apache-2.0
"""Python's ways of serving: python.py DIBSOCK CASE"""
import pathlib
import re
import sys

from stage import HOST, IS_LONG, START, Lo, free_port, group_members, main, need, wait_until

PROGRAM = pathlib.Path(__file__).resolve().parent / "python_ends.py"
CLIENTS = 4


def pair(stage, name):
    port = free_port()
    server = stage.serve(port, sys.executable, PROGRAM, name, "serve", port)
    rounds = 100 if IS_LONG else 16
    return port, server, stage.start(sys.executable, PROGRAM, name, "talk", port, rounds)


def on_memory(stage, name):
    lo = Lo()
    port, server, client = pair(stage, name)
    stage.require_smcd(port, client, CLIENTS)
    payload = 2 * int(re.search(r"bytes (\d+)", client.wait(60))[1])
    lo.require_below(0.05, payload, START)
    server.stop()


def on_tcp(stage, name):
    port, server, client = pair(stage, name)
    stage.require_tcp(port, client)
    client.wait()
    pid = server.process.pid
    wait_until("all answers are given", lambda: group_members(pid) == [pid])
    server.stop()


def activated(stage):
    """The listener is opened by another program, which makes room for the server when a client
    comes."""
    need("systemd-socket-activate")
    port = free_port()
    kept = [f"-E{name}" for name in ("LD_PRELOAD", *stage.environment)
            if name.startswith(("LD_", "DIBSOCK"))]
    server = stage.serve(port, "systemd-socket-activate", *kept, "-l", f"{HOST}:{port}",
                         sys.executable, PROGRAM, "Activated", "serve", port)
    client = stage.start(sys.executable, PROGRAM, "Activated", "talk", port, 100 if IS_LONG else 16)
    stage.require_smcd(port, client, CLIENTS)
    client.wait(60)
    server.stop()


main({
    "activated": activated,
    "asyncio": lambda stage: on_memory(stage, "Asyncio"),
    "connection": lambda stage: on_memory(stage, "Connection"),
    "manager": lambda stage: on_memory(stage, "Manager"),
    "threading": lambda stage: on_memory(stage, "Threading"),
    "forking": lambda stage: on_memory(stage, "Forking"),
    # The new program knows nothing of a connection's beginning.
    "inherited": lambda stage: on_tcp(stage, "Inherited"),
})
