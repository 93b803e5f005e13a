# SPDX-License-Identifier: Apache-2.0
"""`dibsock bench --quick` measures with every transport, and draws: bench_quick.py DIBSOCK

How fast anything is does not matter here.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

dibsock = sys.argv[1]


def require(condition, text):
    if not condition:
        sys.exit(f"FAILED: {text}")


usage = subprocess.run([dibsock, "bench", "--help"], stdout=subprocess.PIPE, text=True, check=True)
require(usage.stdout.startswith("Usage: dibsock bench "), "the help is another program's")



def measure(directory):
    bench = subprocess.run([dibsock, "bench", "--quick", "-o", directory],
                           stdout=subprocess.DEVNULL, timeout=280, check=False)
    report = json.loads((directory / "report.json").read_text())
    require(bench.returncode == (2 if report["alarms"] else 0),
            f"dibsock bench ended with {bench.returncode}: {report['alarms']}")
    return report


with tempfile.TemporaryDirectory() as name:
    directory = pathlib.Path(name)
    report = measure(directory)
    if report["alarms"]:
        # A reader without a CPU for long leaves a connection to TCP, as it should. Not twice.
        print(report["alarms"])
        report = measure(directory)
    require(not report["alarms"], report["alarms"])
    require("carried by" in (directory / "report.txt").read_text(), "there are no tables")
    for result in report["results"]:
        main = "memory" if result["kind"] == "idle" else "per_second"
        require(main in result, f"no {main} of {result['question']}, {result['transport']}")
        require(result["kind"] == "idle" or result[main]["median"] > 0, f"nothing happened: {result}")
    seen = {result["transport"] for result in report["results"]}
    require({"ring", "native", "async", "shim", "lone", "tcp", "unix"} <= seen, f"only {seen}")
    if shutil.which("gnuplot"):
        for plot in "throughput", "latency":
            text = (directory / f"{plot}.svg").read_text()
            require("</svg>" in text and ">shim<" in text, f"no plot of {plot}")
