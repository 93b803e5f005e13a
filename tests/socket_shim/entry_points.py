# SPDX-License-Identifier: Apache-2.0
# entry_points.py LIST LIBRARY PAGE: the preload library exports exactly the
# names that the list says it hooks, libc has each of them, and the page tells
# the same of them.
import ctypes
import re
import subprocess
import sys

TREATMENTS = {"fast", "kept", "tcp", "libc"}


def exported(library):
    shown = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                           capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in shown.splitlines()}


def listed(path):
    names = {}
    for line in open(path):
        words = line.split("#")[0].split(None, 2)
        if not words:
            continue
        name, treatment = words[:2]
        if treatment not in TREATMENTS or name in names:
            raise SystemExit(f"{path}: what is this: {line.strip()}")
        if treatment == "libc" and len(words) < 3:
            raise SystemExit(f"{path}: why has {name} no hook?")
        names[name] = treatment
    return names


def told(page):
    """NAME: TREATMENT of the table of the page, one row for each treatment."""
    names = {}
    for line in open(page):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) < 3 or cells[1] not in TREATMENTS:
            continue
        for name in re.findall(r"`(\w+)`", cells[0]):
            if names.setdefault(name, cells[1]) != cells[1]:
                names[name] = "two things"
    return names


def main(list_file, library, page):
    wanted = listed(list_file)
    shown = exported(library)
    libc = ctypes.CDLL(None)
    hooked = {name for name, treatment in wanted.items() if treatment != "libc"}
    wrong = [f"forgotten: {name}" for name in sorted(hooked - shown)]
    wrong += [f"hooked, but not listed: {name}" for name in sorted(shown - hooked)]
    for name in sorted(wanted):
        try:
            getattr(libc, name)
        except AttributeError:
            wrong.append(f"libc has no {name}")
    said = told(page)
    for name in sorted(wanted.keys() | said.keys()):
        if said.get(name) != wanted.get(name):
            wrong.append(f"{name} is {wanted.get(name)}, the page says {said.get(name)}")
    print("\n".join(wrong) or f"{len(hooked)} hooks, {len(wanted) - len(hooked)} names without")
    return 1 if wrong else 0


sys.exit(main(*sys.argv[1:]))
