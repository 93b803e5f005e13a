# SPDX-License-Identifier: Apache-2.0
"""run_shim.py [options] -- PROGRAM [ARGUMENT...]

Runs a program on a fabric directory of its own, with or without the preload
library, and looks after what programs must not leave behind. Its exit status
is that of the program, 1 for a leftover or another output than wanted, 124
for a program that hangs, 77 for what cannot be done here.

  --shim LIBRARY    load it; without this option the program runs as it is
  --lane LANE       told to the program as TALK_LANE: memory, tcp, any
  --write FILE      keeps the standard output there
  --expect FILE     requires that standard output
  --sweep PROGRAM   run at the end on the same fabric; must leave it empty
  --fabric KIND     own (default), missing, unwritable, file, full
  --env NAME=VALUE  more of the environment
  --chaos SEED      the library does what seldom happens (devices/chaos.hpp); the
                    environment's DIBSOCK_CHAOS names another seed. Programs are
                    told by TALK_ROUGH, and may then be told of an edge twice
  --timeout SECONDS
"""
import argparse
import ctypes
import glob
import os
import shutil
import signal
import subprocess
import sys
import time

PREFIX = "dibsock-test-"
SKIP = 77


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Fabric:
    """A directory under /dev/shm with our pid in its name; gone at the end."""

    def __init__(self, kind="own"):
        for old in glob.glob(f"/dev/shm/{PREFIX}*"):
            pid = os.path.basename(old)[len(PREFIX):].split("-")[0]
            if pid.isdigit() and not is_alive(int(pid)):
                remove(old)
        self.root = f"/dev/shm/{PREFIX}{os.getpid()}-shim"
        os.mkdir(self.root, 0o700)
        self.kind = kind
        self.path = os.path.join(self.root, "fabric")
        if kind == "own":
            os.mkdir(self.path, 0o700)
        elif kind == "missing":
            self.path = os.path.join(self.root, "no", "such", "directory")
        elif kind == "file":
            open(self.path, "w").close()
        elif kind == "unwritable":
            os.mkdir(self.path, 0o500)
            if os.geteuid() == 0 and not mount(self.path, "size=1m,ro"):
                skip("root may write everywhere, and cannot mount here")
        elif kind == "full":
            os.mkdir(self.path, 0o700)
            if not mount(self.path, "size=64k"):
                skip("cannot mount a tmpfs here")

    def files(self):
        try:
            return sorted(os.listdir(self.path))
        except OSError:
            return []

    def close(self):
        remove(self.root)


def mount(path, options):
    """In a mount namespace of our own, so that nothing stays mounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, ms_rec, ms_private = 0x20000, 0x4000, 1 << 18
    if libc.unshare(clone_newns) != 0:
        return False
    libc.mount(b"none", b"/", None, ms_rec | ms_private, None)
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path],
                          capture_output=True).returncode == 0


def remove(path):
    subprocess.run(["umount", "-q", os.path.join(path, "fabric")], capture_output=True)
    shutil.rmtree(path, ignore_errors=True)


def skip(why):
    print(f"SKIPPED: {why}", file=sys.stderr)
    raise SystemExit(SKIP)


def group_members(group):
    """Living processes of a group; zombies have ended already."""
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            members.append(int(entry))
    return members


def tell_where(pids):
    for pid in pids:
        for task in glob.glob(f"/proc/{pid}/task/*"):
            try:
                where = open(f"{task}/wchan").read()
                name = open(f"{task}/comm").read().strip()
                call = open(f"{task}/syscall").read().strip()
            except OSError:
                continue
            print(f"  {pid} {os.path.basename(task)} {name}: {where} [{call}]", file=sys.stderr)
        if shutil.which("gdb") and os.environ.get("SHIM_TEST_GDB"):
            subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt"],
                           stdout=sys.stderr, stderr=subprocess.DEVNULL)


def end_group(group):
    """Kills what is left of it; gives how many there were."""
    deadline = time.monotonic() + 3
    while members := group_members(group):
        if time.monotonic() > deadline:
            tell_where(members)
            os.killpg(group, signal.SIGKILL)
            return len(members)
        time.sleep(0.01)
    return 0


def run(command, environment, timeout):
    """(status, stdout). The program leads a process group of its own."""
    program = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, start_new_session=True)
    try:
        output = program.communicate(timeout=timeout)[0]
        status = program.returncode
    except subprocess.TimeoutExpired:
        print(f"hangs after {timeout} s: {' '.join(command)}", file=sys.stderr)
        tell_where(group_members(program.pid))
        os.killpg(program.pid, signal.SIGKILL)
        output = program.communicate()[0]
        sys.stderr.write(output.decode(errors="replace"))
        return 124, output
    if status < 0:
        print(f"ended by signal {-status}: {' '.join(command)}", file=sys.stderr)
        status = 128 - status
    if left := end_group(program.pid):
        print(f"{left} processes were left behind", file=sys.stderr)
        status = status or 1
    return status, output


def environment_for(fabric, shim, more=()):
    wanted = {k: v for k, v in os.environ.items() if not k.startswith("DIBSOCK")}
    wanted.pop("LD_PRELOAD", None)
    wanted["DIBSOCK_FABRIC"] = fabric.path
    if shim:
        wanted["LD_PRELOAD"] = shim
    for pair in more:
        name, _, value = pair.partition("=")
        wanted[name] = value
    return wanted


def parse():
    arguments = sys.argv[1:]
    split = arguments.index("--")
    options = argparse.ArgumentParser(usage=__doc__)
    options.add_argument("--shim")
    options.add_argument("--lane", default="any")
    options.add_argument("--write")
    options.add_argument("--expect")
    options.add_argument("--sweep")
    options.add_argument("--fabric", default="own")
    options.add_argument("--env", action="append", default=[])
    options.add_argument("--chaos")
    options.add_argument("--timeout", type=float, default=25)
    return options.parse_args(arguments[:split]), arguments[split + 1:]


def main():
    options, command = parse()
    fabric = None
    try:
        fabric = Fabric(options.fabric)
        environment = environment_for(fabric, options.shim, options.env)
        if options.chaos:
            seed = os.environ.get("DIBSOCK_CHAOS", options.chaos)
            print(f"DIBSOCK_CHAOS={seed}", file=sys.stderr)
            environment.update(DIBSOCK_CHAOS=seed, TALK_ROUGH="yes")
        if options.lane != "any":
            environment["TALK_LANE"] = options.lane
        status, output = run(command, environment, options.timeout)
        if options.write and status == 0:
            with open(options.write, "wb") as kept:
                kept.write(output)
        if options.expect and status == 0 and output != open(options.expect, "rb").read():
            print("the output differs from that without the shim:", file=sys.stderr)
            sys.stderr.write(output.decode(errors="replace"))
            status = 1
        if options.sweep and options.shim and status == 0:
            # In good order: chaos is for the program.
            calm = environment_for(fabric, options.shim, options.env)
            run([options.sweep], calm, options.timeout)
            left = [name for name in fabric.files() if name != "rendezvous"]
            if left:
                print(f"left in the fabric: {' '.join(left)}", file=sys.stderr)
                status = 1
        return status
    finally:
        if fabric is not None:
            fabric.close()


if __name__ == "__main__":
    sys.exit(main())
