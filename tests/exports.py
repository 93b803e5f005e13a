# SPDX-License-Identifier: Apache-2.0
# exports.py LIBRARY MAP: the library shows the names of the map and no others,
# and needs nothing but libc.
import re
import subprocess
import sys

# libm: clang names it for nothing.
NEEDED = re.compile(r"^(libc\.so\.6|ld-linux-[\w-]+\.so\.\d+|libm\.so\.6)$")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(library, map_file):
    text = re.sub(r"/\*.*?\*/|#[^\n]*", "", open(map_file).read(), flags=re.S)
    listed = set(re.search(r"global:(.*?)local:", text, re.S)[1].replace(";", " ").split())
    shown = set()
    for line in run("nm", "-D", "--defined-only", library).splitlines():
        kind, name = line.split()[-2:]
        if kind != "A":  # the name of the version itself
            shown.add(name.split("@")[0])
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "-dW", library))
    wrong = [f"listed, but not there: {name}" for name in sorted(listed - shown)]
    wrong += [f"shown, but not listed: {name}" for name in sorted(shown - listed)]
    wrong += [f"needs {name}" for name in needed if not NEEDED.match(name)]
    print("\n".join(wrong) or f"{len(shown)} names, needs {', '.join(needed)}")
    return 1 if wrong else 0


sys.exit(main(*sys.argv[1:]))
