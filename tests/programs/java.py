# SPDX-License-Identifier: Apache-2.0
"""OpenJDK, as single-file programs: java.py DIBSOCK CASE"""
import pathlib
import re

from stage import IS_LONG, START, Lo, free_port, main, need

HERE = pathlib.Path(__file__).resolve().parent
CONNECTIONS = 4


def java(program, *words):
    return "java", "-Xmx512m", "-XX:TieredStopAtLevel=1", HERE / program, *words


def judge(stage, port, client, lo, start):
    stage.require_smcd(port, client, CONNECTIONS)
    payload = 2 * int(re.search(r"bytes (\d+)", client.wait(80))[1])
    lo.require_below(0.05, payload, start)


def http(stage):
    need("java")
    port, lo = free_port(), Lo()
    server = stage.serve(port, *java("HttpEcho.java", "serve", port))
    client = stage.start(*java("HttpEcho.java", "talk", port, 40 if IS_LONG else 3))
    judge(stage, port, client, lo, START)
    server.stop()


def nio(stage):
    need("java")
    port, lo = free_port(), Lo()
    server = stage.serve(port, *java("NioEcho.java", "serve", port, CONNECTIONS))
    client = stage.start(*java("NioEcho.java", "talk", port, CONNECTIONS, 500 if IS_LONG else 100))
    # All write as fast as they can from the first byte on.
    judge(stage, port, client, lo, CONNECTIONS * START)
    server.wait()


main({"http": http, "nio": nio})
