# SPDX-License-Identifier: Apache-2.0
"""Go's net/http, whose system calls no preloaded library sees: go.py DIBSOCK CASE

It stays on TCP, also where the other end is a program that could leave it. Node's
test program speaks the same as Go's.
"""
import pathlib

from stage import Capture, free_port, main, need, require

HERE = pathlib.Path(__file__).resolve().parent
GO_ROUNDS, NODE_ROUNDS = 3, 1
LEAST = 2 * 4 * 1_000_000  # bytes that one round carries there and back


def build(stage):
    need("go")
    stage.environment.update(GOCACHE=str(stage.scratch / "cache"), GOPATH=str(stage.scratch / "go"))
    program = stage.scratch / "web"
    stage.start("go", "build", "-o", program, HERE / "web.go", under=False).wait(100)
    return program


def talk(stage, server, client, rounds, is_known):
    port = free_port()
    capture = Capture(stage, port)
    serving = stage.serve(port, *server, "serve", port, "alone")
    talking = stage.start(*client, "talk", port, *rounds)
    if is_known:
        stage.require_tcp(port, talking)
    talking.wait()
    if not is_known:
        require(not stage.connections(port), "dibsock knows a connection of Go's")
    capture.stop()
    capture.require_no_clc(LEAST)
    serving.stop()


def node():
    need("node")
    return "node", HERE / "node_http.js"


main({
    "talk": lambda stage: talk(stage, *[[build(stage)]] * 2, [GO_ROUNDS], False),
    "server": lambda stage: talk(stage, [build(stage)], node(), [1, NODE_ROUNDS], True),
    "client": lambda stage: talk(stage, node(), [build(stage)], [GO_ROUNDS], True),
})
