# SPDX-License-Identifier: Apache-2.0
"""The handshake on the wire, as stock Wireshark reads it: handshake.py DIBSOCK CASE

Wireshark knows SMC by its eyecatcher, on any port. The case `decoded` also
shows that the other captures would find a CLC message if there were one.
"""
import pathlib
import re
import sys

import echo
from stage import SEED, Capture, free_port, has_clc, main, require

ROUNDS = 1000
SAID = ROUNDS * len(echo.MESSAGE)


def talk(stage, server=True, client=True):
    """Gives a capture of all of it."""
    port, program = free_port(), pathlib.Path(echo.__file__).resolve()
    capture = Capture(stage, port)
    serving = stage.serve(port, sys.executable, program, "serve", port, under=server)
    stage.start(sys.executable, program, "talk", port, ROUNDS, under=client).wait()
    serving.wait()
    capture.stop()
    return capture


def is_decoded(stage):
    capture = talk(stage)
    decoded = capture.tshark("-V", "-O", "smc", "-Y", "smc")
    messages = re.findall(r"CLC Message: (\w+)", decoded)
    types = re.findall(r"SMC(?:\(v2\))? Type: (\S+)", decoded)
    print(*messages, *types)
    everything = capture.tshark("-V")
    for complaint in "Malformed", "Dissector bug", "Expert Info (Error":
        require(complaint not in everything, f"tshark says {complaint}")
    if SEED:  # refusals are part of it
        return
    require(messages == ["Proposal", "Accept", "Confirm"], f"another handshake:\n{decoded}")
    require(types == ["SMC-D"] * 3, f"not all is SMC-D:\n{decoded}")

    # Each direction: first the program's bytes, then CLC; most of them never.
    client, server = capture.streams()
    for stream in client, server:
        require(stream.startswith(echo.MESSAGE), "CLC came before the program's first bytes")
        require(len(stream) < SAID / 2, f"{len(stream)} bytes went over TCP")
        require(has_clc(stream), "no CLC message found where there is one")


def is_untouched(stage, **under):
    capture = talk(stage, **under)
    capture.require_no_clc(2 * SAID)
    for stream in capture.streams():
        require(stream == echo.MESSAGE * ROUNDS, "the wire carried other bytes than the program's")


main({
    "decoded": is_decoded,
    "client_only": lambda stage: is_untouched(stage, server=False),
    "server_only": lambda stage: is_untouched(stage, client=False),
})
