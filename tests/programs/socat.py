# SPDX-License-Identifier: Apache-2.0
"""socat in several modes: socat.py DIBSOCK CASE"""
import hashlib
import os
import random
import shutil
import threading
import time

from stage import HOST, IS_LONG, SEED, START, Lo, free_port, main, need, require, skip

MIB = 1 << 20
SIZE = (500 if IS_LONG else 32) * MIB


def make_file(stage, name, seed):
    made = random.Random(seed)
    with open(stage.scratch / name, "wb") as file:
        for _ in range(SIZE // MIB):
            file.write(made.randbytes(MIB))


def digest(stage, name):
    with open(stage.scratch / name, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def feed(stage, name):
    """Gives a pipe with a file's content, whose end comes when the test has seen the connection:
    all of it is in memory within a few hundredths of a second."""
    pipe = stage.scratch / f"{name}.pipe"
    os.mkfifo(pipe)

    def write():
        with open(stage.scratch / name, "rb") as file, open(pipe, "wb") as end:
            shutil.copyfileobj(file, end)
            end.flush()
            while not stage.seen.exists():
                time.sleep(0.005)
    threading.Thread(target=write, daemon=True).start()
    return pipe


def require_same(stage, sent, received):
    require(digest(stage, sent) == digest(stage, received), f"{received} is not {sent}")


def pair(stage, listens, server, client, is_blocking=True):
    """Options of the addresses, then what the bytes come from and go to, of either side."""
    need("socat")
    port = free_port()
    more = "" if is_blocking else ",nonblock"
    serving = stage.serve(port, "socat", "-T30", "-t30",
                          f"TCP-LISTEN:{port},bind={HOST},reuseaddr{listens}{more}", server)
    return port, serving, stage.start("socat", "-T30", "-t30", client, f"TCP:{HOST}:{port}{more}")


def files(sent, received):
    return f"OPEN:{sent},rdonly!!CREATE:{received}"


def both_ways(stage, is_blocking=True):
    """Each side sends a file, shuts its direction down, and goes on receiving."""
    for name, seed in ("here", 1), ("there", 2):
        make_file(stage, name, seed)
    lo = Lo()
    port, server, client = pair(stage, "", files(feed(stage, "here"), "from_there"),
                                files(feed(stage, "there"), "from_here"), is_blocking)
    stage.require_smcd(port, client)
    client.wait()
    server.wait()
    require_same(stage, "here", "from_here")
    require_same(stage, "there", "from_there")
    lo.require_below(0.05, 2 * SIZE, START)


def echo(stage, listens):
    """A child of socat sends back what it gets, until it gets no more."""
    make_file(stage, "there", 1)
    lo = Lo()
    port, server, client = pair(stage, listens, "EXEC:cat", files(feed(stage, "there"), "back"))
    stage.require_smcd(port, client)
    client.wait()
    require_same(stage, "there", "back")
    lo.require_below(0.05, 2 * SIZE, START)
    return port, server


def fork(stage):
    """A child for each connection, several at a time."""
    port, server = echo(stage, ",fork")
    clients = [stage.start("socat", "-T30", "-t30", files("there", f"back{i}"),
                           f"TCP:{HOST}:{port}") for i in range(3)]
    for i, client in enumerate(clients):
        client.wait()
        require_same(stage, "there", f"back{i}")
    server.stop()


def nonblock(stage):
    if SEED:
        skip("socat sleeps for a second after each write of which a part is taken")
    both_ways(stage, False)


main({
    "both_ways": both_ways,
    "nonblock": nonblock,
    "exec": lambda stage: echo(stage, "")[1].wait(),
    "fork": fork,
})
