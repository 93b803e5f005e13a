# SPDX-License-Identifier: Apache-2.0
"""redis-benchmark -c 50 with all its commands: redis.py DIBSOCK CASE"""
import re
import subprocess

from stage import HOST, IS_LONG, Capture, Lo, free_port, main, need, require

CLIENTS = 50


def serve(stage, port, under=True):
    need("redis-server", "redis-benchmark", "redis-cli")
    return stage.serve(port, "redis-server", "--port", port, "--bind", HOST, "--save", "",
                       "--appendonly", "no", under=under)


def ask(stage, port, *words):
    """By redis-cli, outside of dibsock."""
    done = subprocess.run(["redis-cli", "-h", HOST, "-p", str(port), *words], text=True,
                          capture_output=True, timeout=30, env=stage.environment)
    require(done.returncode == 0, f"redis-cli failed: {done.stderr}")
    return done.stdout


def benchmark(stage, port, requests, *options, under=True):
    return stage.start("redis-benchmark", "-h", HOST, "-p", port, "-n", requests, "--csv",
                       *options, under=under)


def require_results(stage, port, output, requests):
    """All commands have been measured, and the server has counted as many requests."""
    lines = [line for line in output.splitlines() if line.startswith('"')]
    require(lines and lines[0].startswith('"test"'), f"no table: {output}")
    for line in lines[1:]:
        print(" ".join(line.replace('"', "").split(",")[:2]))
    require(len(lines) == 21, f"{len(lines) - 1} commands were measured")
    count = int(ask(stage, port, "get", "counter:__rand_int__"))
    require(count >= requests, f"{count} of {requests} INCR have arrived")


def on_memory(stage):
    port, requests = free_port(), 100_000 if IS_LONG else 4_000
    server, lo = serve(stage, port), Lo()
    client = benchmark(stage, port, requests, "-c", CLIENTS)
    stage.require_smcd(port, client, CLIENTS)
    output = client.wait(600 if IS_LONG else 80)
    statistics = ask(stage, port, "info", "stats")
    payload = sum(map(int, re.findall(r"total_net_\w+put_bytes:(\d+)", statistics)))
    # Each command opens its connections anew, and their first calls are TCP's.
    lo.require_below(0.01 if IS_LONG else 0.5, payload)
    require_results(stage, port, output, requests)
    server.stop()


def on_tcp(stage, server=True, client=True):
    port, requests = free_port(), 200
    redis = serve(stage, port, server)
    capture = Capture(stage, port)
    program = benchmark(stage, port, requests, "-c", 5, under=client)
    stage.require_tcp(port, program)
    output = program.wait()
    capture.stop()
    capture.require_no_clc(1_000_000)
    require_results(stage, port, output, requests)
    redis.stop()


main({
    "memory": on_memory,
    "client_only": lambda stage: on_tcp(stage, server=False),
    "server_only": lambda stage: on_tcp(stage, client=False),
})
