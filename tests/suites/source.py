# SPDX-License-Identifier: Apache-2.0
"""Sources of Debian packages, unpacked outside of the source tree.

apt is told of its archive on the command line and keeps its lists beside the sources:
nothing of the machine's own configuration is used or changed.
"""
import pathlib
import shutil
import subprocess
import sys

CACHE = pathlib.Path(__file__).resolve().parent.parent.parent / "build/suites"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
ARCHIVES = (("http://deb.debian.org/debian", "bookworm"),
            ("http://deb.debian.org/debian-security", "bookworm-security"))


def call(*command, directory, log):
    """What it prints goes to a file, whose end is shown if it fails."""
    with open(log, "ab") as output:
        done = subprocess.run([str(word) for word in command], cwd=directory,
                              stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{command[0]} failed, see {log}:\n"
                 + pathlib.Path(log).read_text(errors="replace")[-2000:])


def fetch(package):
    """The directory that the package's source is in."""
    final = CACHE / package / "source"
    if final.exists():
        return final
    scratch = CACHE / package / "fetch"
    shutil.rmtree(scratch, ignore_errors=True)
    for folder in "lists/partial", "archives/partial", "unpacked":
        (scratch / folder).mkdir(parents=True)
    lines = [f"deb-src [signed-by={KEYS}] {where} {suite} main\n" for where, suite in ARCHIVES]
    (scratch / "sources.list").write_text("".join(lines))
    apt = ["apt-get", "-q", "-o", f"Dir::Etc::sourcelist={scratch}/sources.list",
           "-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State::lists={scratch}/lists",
           "-o", f"Dir::Cache={scratch}", "-o", "APT::Sandbox::User="]
    log = CACHE / package / "log"
    call(*apt, "update", directory=scratch, log=log)
    call(*apt, "source", package, directory=scratch / "unpacked", log=log)
    unpacked = [entry for entry in (scratch / "unpacked").iterdir() if entry.is_dir()]
    unpacked[0].rename(final)
    shutil.rmtree(scratch)
    return final
