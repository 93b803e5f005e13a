# SPDX-License-Identifier: Apache-2.0
"""curl of a large file from Python's http.server: curl.py DIBSOCK CASE"""
import hashlib
import os
import random
import sys

from stage import HOST, IS_LONG, START, Capture, Lo, free_port, main, need, require

MIB = 1 << 20
PIECE = 1 << 16


def make_file(stage, size):
    """Text that does not repeat itself; no byte of it is one of an eyecatcher."""
    made, digest = random.Random(1), hashlib.sha256()
    (stage.scratch / "served").mkdir()
    with open(stage.scratch / "served" / "file", "wb") as file:
        for _ in range(size // MIB):
            block = made.randbytes(MIB // 2).hex().encode()
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


def digest_of(file):
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def pair(stage, port, *options, server=True, client=True):
    need("curl")
    serving = stage.serve(port, sys.executable, "-m", "http.server", port, "--bind", HOST,
                          "--directory", stage.scratch / "served", under=server)
    return serving, stage.start("curl", "-sS", "--fail", "-o", stage.scratch / "received", *options,
                                f"http://{HOST}:{port}/file", under=client)


def on_memory(stage):
    size = (1024 if IS_LONG else 64) * MIB
    digest, port, lo = make_file(stage, size), free_port(), Lo()
    # In the middle curl has to wait until the test has seen the connection, and the server with it.
    os.mkfifo(stage.scratch / "received")
    stage.environment["DIBSOCK_PATIENCE_US"] = "60000000"
    server, client = pair(stage, port, "-w", "%{speed_download}")
    received = hashlib.sha256()
    with open(stage.scratch / "received", "rb") as pipe:
        for _ in range(size // 2 // PIECE):
            received.update(pipe.read(PIECE))
        stage.require_smcd(port, client)
        while piece := pipe.read(PIECE):
            received.update(piece)
    print(f"{float(client.wait(60)) / 1e6:.0f} MB/s")
    lo.require_below(0.01, size, START)
    require(received.hexdigest() == digest, "other bytes were received")
    server.stop()


def on_tcp(stage, **under):
    size = 32 * MIB  # more than the kernel buffers: the server must wait for the client
    digest, port = make_file(stage, size), free_port()
    capture = Capture(stage, port)
    server, client = pair(stage, port, "--limit-rate", "16M", **under)
    stage.require_tcp(port, client)
    client.wait()
    require(digest_of(stage.scratch / "received") == digest, "other bytes were received")
    capture.stop()
    capture.require_no_clc(size)
    server.stop()


main({
    "memory": on_memory,
    "client_only": lambda stage: on_tcp(stage, server=False),
    "server_only": lambda stage: on_tcp(stage, client=False),
})
