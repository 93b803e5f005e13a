# SPDX-License-Identifier: Apache-2.0
"""iperf3, which sends as fast as it can: iperf3.py DIBSOCK CASE"""
import json

from stage import HOST, SECONDS, START, Capture, Lo, free_port, main, need, require


def pair(stage, port, *options, server=True, client=True):
    need("iperf3")
    serving = stage.serve(port, "iperf3", "-s", "-1", "-p", port, "--bind", HOST, under=server)
    return serving, stage.start("iperf3", "-c", HOST, "-p", port, "--json", *options, under=client)


def on_memory(stage, *options, streams=1):
    port, lo = free_port(), Lo()
    server, client = pair(stage, port, "-t", SECONDS, *options)
    stage.require_smcd(port, client, streams)
    result = json.loads(client.wait(SECONDS + 40))
    server.wait()
    sent, received = result["end"]["sum_sent"], result["end"]["sum_received"]
    print(f"{received['bits_per_second'] / 1e9:.1f} Gbit/s")
    require(sent["bytes"] >= received["bytes"], "more was received than sent")
    lo.require_below(0.01, received["bytes"], streams * START)


def on_tcp(stage, **under):
    port = free_port()
    capture = Capture(stage, port)
    # Text, since random bytes may look like anything.
    server, client = pair(stage, port, "-t", 1, "-b", "20M", "--repeating-payload", **under)
    stage.require_tcp(port, client)
    received = json.loads(client.wait())["end"]["sum_received"]["bytes"]
    server.wait()
    capture.stop()
    capture.require_no_clc(max(received, 1_000_000))


main({
    "forward": on_memory,
    "reverse": lambda stage: on_memory(stage, "-R"),
    "parallel": lambda stage: on_memory(stage, "-P", 4, streams=4),
    "client_only": lambda stage: on_tcp(stage, server=False),
    "server_only": lambda stage: on_tcp(stage, client=False),
})
