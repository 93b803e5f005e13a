# SPDX-License-Identifier: Apache-2.0
"""Node's HTTP server and client with keep-alive: node.py DIBSOCK CASE"""
import pathlib
import re

from stage import IS_LONG, START, Lo, free_port, main, need

PROGRAM = pathlib.Path(__file__).resolve().parent / "node_http.js"
CONNECTIONS = 4


def talk(stage, how):
    """Gives the server, its port and a client under way."""
    need("node")
    port = free_port()
    server = stage.serve(port, "node", PROGRAM, "serve", port, how)
    client = stage.start("node", PROGRAM, "talk", port, CONNECTIONS, 20 if IS_LONG else 2)
    return server, port, client


def on_memory(stage, how):
    lo = Lo()
    server, port, client = talk(stage, how)
    stage.require_smcd(port, client, CONNECTIONS)
    payload = 2 * int(re.search(r"bytes (\d+)", client.wait(60))[1])
    lo.require_below(0.05, payload, START)
    server.stop()


def on_tcp(stage):
    """Connections that go from process to process."""
    server, port, client = talk(stage, "handed")
    stage.require_tcp(port, client)
    client.wait()
    server.stop()


main({
    "memory": lambda stage: on_memory(stage, "alone"),
    "shared": lambda stage: on_memory(stage, "shared"),
    "handed": on_tcp,
})
