# SPDX-License-Identifier: Apache-2.0
"""sockperf ping-pong: sockperf.py DIBSOCK CASE"""
import re

from stage import HOST, SECONDS, Capture, Lo, free_port, main, need, require

SIZE = 1024


def pair(stage, port, *options, server=True, client=True):
    need("sockperf")
    serving = stage.serve(port, "sockperf", "server", "--tcp", "-i", HOST, "-p", port, under=server)
    return serving, stage.start("sockperf", "ping-pong", "--tcp", "-i", HOST, "-p", port,
                                "-m", SIZE, *options, under=client)


def messages(output):
    """How many went there and back; none may be lost."""
    counts = re.search(r"\[Total Run\].*SentMessages=(\d+); ReceivedMessages=(\d+)", output)
    require(counts, f"no result: {output}")
    sent, received = map(int, counts.groups())
    require(sent - received <= 1, f"{sent} sent, {received} received")
    lost = re.findall(r"# (dropped|duplicated|out-of-order) messages = (\d+)", output)
    require([count for _, count in lost] == ["0"] * 3, f"messages lost: {output}")
    return received


def on_memory(stage):
    port, lo = free_port(), Lo()
    # Without a rate sockperf makes room for 600,000 messages a second, and fails
    # when there are more.
    server, client = pair(stage, port, "-t", SECONDS, "--mps", 5_000_000)
    stage.require_smcd(port, client, 2)
    output = client.wait(SECONDS + 40)
    count = messages(output)
    for line in output.splitlines():
        if "Latency is" in line or "percentile 99.000" in line or "percentile 50.000" in line:
            print(re.sub("\x1b\\[[0-9;]*m", "", line).removeprefix("sockperf: "))
    lo.require_below(0.01, 2 * SIZE * count)
    server.stop()


def on_tcp(stage, **under):
    port = free_port()
    capture = Capture(stage, port)
    server, client = pair(stage, port, "-t", 1, "--mps", 1000, **under)
    stage.require_tcp(port, client)
    count = messages(client.wait())
    require(count > 10, "too few messages")
    capture.stop()
    capture.require_no_clc(2 * SIZE * count)
    server.stop()


main({
    "memory": on_memory,
    "client_only": lambda stage: on_tcp(stage, server=False),
    "server_only": lambda stage: on_tcp(stage, client=False),
})
