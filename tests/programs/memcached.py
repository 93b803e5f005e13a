# SPDX-License-Identifier: Apache-2.0
"""memcached with four threads: memcached.py DIBSOCK CASE"""
import re
import socket

from stage import HOST, IS_LONG, Lo, free_port, main, need, require


def serve(stage, port):
    need("memcached", "memccapable", "memcaslap")
    return stage.serve(port, "memcached", "-u", "root", "-l", HOST, "-p", port, "-U", 0, "-t", 4,
                       "-m", 64)


def statistics(port):
    with socket.create_connection((HOST, port), 30) as asking:
        asking.sendall(b"stats\r\n")
        answer = b""
        while not answer.endswith(b"END\r\n"):
            answer += asking.recv(4096)
    return {name: value for _, name, value in
            (line.split(" ", 2) for line in answer.decode().splitlines()[:-1])}


def load(stage):
    """Gets and sets over many connections; one in four gets is compared with what was set."""
    port, requests = free_port(), 2_000_000 if IS_LONG else 200_000
    server, lo = serve(stage, port), Lo()
    client = stage.start("memcaslap", "-s", f"{HOST}:{port}", "-T", 2, "-c", 16, "-X", 1024,
                         "-v", "0.25", "-x", requests)
    stage.require_smcd(port, client, 16)
    output = client.wait(100)
    counts = {name: int(value) for name, value in re.findall(r"^(\w+): (\d+)$", output, re.M)}
    print(re.search(r"TPS: \d+", output)[0])
    require(counts["verify_failed"] == counts["verify_misses"] == 0, f"other values: {output}")
    known = statistics(port)
    for name in "cmd_get", "cmd_set":
        require(int(known[name]) >= counts[name] > 0, f"{known[name]} of {counts[name]} {name}")
    lo.require_below(0.05, int(known["bytes_read"]) + int(known["bytes_written"]))
    server.stop()


def capable(stage):
    """Every command of both protocols, by a client that sends them in pieces as well."""
    port = free_port()
    server = serve(stage, port)
    for protocol in "-a", "-b":
        output = stage.start("memccapable", "-h", HOST, "-p", port, "-v", protocol).wait()
        require("All tests passed" in output, f"memccapable: {output}")
    server.stop()


main({"load": load, "capable": capable})
