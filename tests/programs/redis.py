# SPDX-License-Identifier: Apache-2.0
"""redis-benchmark -c 50 with all its commands; redis with threads, with children that save, and
with a replica: redis.py DIBSOCK CASE"""
import re
import subprocess

from stage import HOST, IS_LONG, SEED, Capture, Lo, free_port, main, need, require, wait_until

CLIENTS = 50


def serve(stage, port, *options, under=True):
    need("redis-server", "redis-benchmark", "redis-cli")
    return stage.serve(port, "redis-server", "--port", port, "--bind", HOST, "--save", "",
                       "--appendonly", "no", *options, under=under)


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
    port, requests = free_port(), 100_000 if IS_LONG else 10_000
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
    redis = serve(stage, port, under=server)
    capture = Capture(stage, port)
    program = benchmark(stage, port, requests, "-c", 5, under=client)
    stage.require_tcp(port, program)
    output = program.wait()
    capture.stop()
    capture.require_no_clc(1_000_000)
    require_results(stage, port, output, requests)
    redis.stop()


def load(stage, port, requests, *options):
    """Random keys and values in pipelines, over 20 connections; under way in memory."""
    client = benchmark(stage, port, requests, "-c", 20, "-P", 8, "-r", 20_000, "-d", 300,
                       "-t", "set,get,lpush,hset", *options)
    stage.require_smcd(port, client, 20)
    return client


def digest(stage, port):
    return ask(stage, port, "debug", "digest").strip()


def number(stage, port, section, name):
    return int(re.search(rf"^{name}:(\d+)", ask(stage, port, "info", section), re.M)[1])


def io_threads(stage):
    """Threads that wait busily, more of them than there may be processors: few requests do."""
    port, requests = free_port(), 50_000 if IS_LONG else 300
    server = serve(stage, port, "--io-threads", 4, "--io-threads-do-reads", "yes")
    forever = load(stage, port, 1_000_000, "--threads", 2)
    wait_until("the threads have done something", lambda: (
        number(stage, port, "stats", "io_threaded_reads_processed") > requests
        and number(stage, port, "stats", "io_threaded_writes_processed") > requests))
    forever.kill()
    benchmark(stage, port, requests, "-c", 20, "-t", "incr").wait(100)
    count = int(ask(stage, port, "get", "counter:__rand_int__"))
    require(count == requests, f"{count} of {requests} INCR have arrived")
    server.stop()


def save(stage, port):
    """By a child, while the parent goes on."""
    require("started" in ask(stage, port, "bgsave"), "no child saves")
    wait_until("redis has saved",
               lambda: number(stage, port, "persistence", "rdb_bgsave_in_progress") == 0)
    require("rdb_last_bgsave_status:ok" in ask(stage, port, "info", "persistence"),
            "the child could not save")


def background_save(stage):
    port, other, requests = free_port(), free_port(), 500_000 if IS_LONG else 100_000
    options = "--dir", stage.scratch, "--enable-debug-command", "local", "--rdbcompression", "no"
    server = serve(stage, port, *options)
    client = load(stage, port, requests)
    for _ in range(3):
        save(stage, port)
    client.wait(100)
    save(stage, port)
    wanted = digest(stage, port)
    server.stop()
    loaded = serve(stage, other, *options)
    wait_until("redis has loaded", lambda: "\nloading:0" in ask(stage, other, "info", "persistence"))
    require(digest(stage, other) == wanted, "what was saved is something else")
    loaded.stop()


def replica(stage):
    """One that comes while the master is under load, and again after its link was cut."""
    port, other, requests = free_port(), free_port(), 500_000 if IS_LONG else 100_000
    options = "--enable-debug-command", "local", "--repl-diskless-sync-delay", 0
    server = serve(stage, port, *options)
    client = load(stage, port, requests)
    follower = serve(stage, other, "--replicaof", HOST, port, *options)

    def is_linked():
        if SEED:  # then it may be refused
            return "\nmaster_link_status:up" in ask(stage, other, "info", "replication")
        return any(end["mode"] == "SMCD" and end["rx"]["lane"] == "dmb"
                   and end["pid"] == follower.process.pid for end in stage.connections(port))
    wait_until("the link of the replica is in memory", is_linked)
    ask(stage, port, "client", "kill", "type", "replica")
    client.wait(100)
    wait_until("the replica has all", lambda: (
        number(stage, other, "replication", "slave_repl_offset")
        == number(stage, port, "replication", "master_repl_offset")))
    wait_until("the link of the replica is in memory again", is_linked)
    require(digest(stage, other) == digest(stage, port), "the replica has other keys")
    follower.stop()
    server.stop()


main({
    "memory": on_memory,
    "io_threads": io_threads,
    "background_save": background_save,
    "replica": replica,
    "client_only": lambda stage: on_tcp(stage, server=False),
    "server_only": lambda stage: on_tcp(stage, client=False),
})
