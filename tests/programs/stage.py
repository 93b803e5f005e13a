# SPDX-License-Identifier: Apache-2.0
"""What the tests of real programs share: a stage on which they run.

A stage is a fabric and a scratch directory under /dev/shm, a network namespace
of its own where that is permitted, and the programs started on it. Whatever
ends the test ends them too. Nothing here waits by sleeping a fixed time.
"""
import ctypes
import glob
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HOST = "127.0.0.1"
PREFIX = "dibsock-test-"
SKIP = 77
SECONDS = int(os.environ.get("DIBSOCK_PROGRAM_SECONDS", "3"))
IS_LONG = SECONDS >= 10
SEED = os.environ.get("DIBSOCK_CHAOS")  # devices/chaos.hpp; no lane is asked for then

# A CLC message: "SMCR" or "SMCD" in EBCDIC, type, length, version; such a word again at its end.
EYECATCHER = re.compile(bytes.fromhex("e2d4c3") + b"[\xd9\xc4]")
CLC_TYPES, CLC_VERSIONS, CLC_SIZES = range(1, 5), (1, 2), range(28, 1025)

# What a connection may have sent over TCP before it switches: the kernel's buffers are
# full by then.
START = 16 << 20

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Failure(Exception):
    """The test has failed; the text says how."""


def require(condition, text):
    if not condition:
        raise Failure(text)


def skip(why):
    print(f"SKIPPED: {why}", file=sys.stderr)
    raise SystemExit(SKIP)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            skip(f"there is no {program}")


def need_root():
    """The real one: whoever is root in a user namespace of ours cannot become another user."""
    if os.geteuid() != 0 or open("/proc/self/uid_map").read().split()[2] == "1":
        skip("this needs root")


def wait_until(what, is_true, seconds=30):
    """Asks until the answer is true, and gives it."""
    deadline = time.monotonic() + seconds
    while not (answer := is_true()):
        require(time.monotonic() < deadline, f"waited {seconds} s in vain until {what}")
        time.sleep(0.005)
    return answer


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def is_listening(port):
    """Read from the kernel's table: a probing connect would be a client to some servers."""
    for table in "/proc/net/tcp", "/proc/net/tcp6":
        for line in open(table).readlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                return True
    return False


def lo_bytes():
    for line in open("/proc/net/dev"):
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[0])
    raise Failure("there is no interface lo")


def group_members(group):
    """Living processes of a group; zombies have ended already."""
    members = []
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            fields = open(stat).read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            members.append(int(stat.split("/")[2]))
    return members


class Watchdog:
    """Outlives a test that is killed, to end the process groups that it leaves behind."""

    def __init__(self, directory):
        listening, self.telling = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(self.telling)
            self.watch(listening, directory)
        os.close(listening)

    def tell(self, group):
        os.write(self.telling, b"%d\n" % group)

    def end(self):
        """The test has looked after everything itself."""
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.telling)

    @staticmethod
    def watch(listening, directory):
        os.setsid()  # whoever kills the test's group does not mean this process
        for sign in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
            signal.signal(sign, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for number in 0, 1, 2:  # nobody waits for the end of what is printed here
            os.dup2(null, number)
        with open(listening) as told:
            for group in told.read().split():
                try:
                    os.killpg(int(group), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(0)


class Program:
    """A started program, leader of a process group; what it prints goes to a file."""

    def __init__(self, name, command, log, environment, directory, identity):
        self.name, self.log = name, log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=environment, cwd=directory, start_new_session=True, **identity,
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))

    def output(self):
        return self.log.read_text(errors="replace")

    def is_running(self):
        return self.process.poll() is None

    def wait(self, seconds=40):
        """Waits for a good end, and gives what was printed."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} hangs after {seconds} s") from None
        require(status == 0, f"{self.name} ended with status {status}")
        return self.output()

    def stop(self, sign=signal.SIGTERM, seconds=20):
        """Asks a server to end; it must do so, but may do so by the signal."""
        self.process.send_signal(sign)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} does not end when asked to") from None
        require(status in (0, -sign, 128 + sign), f"{self.name} ended with status {status}")
        require(not group_members(self.process.pid), f"{self.name} left processes behind")

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Stage:
    def __init__(self, dibsock):
        self.dibsock = dibsock
        self.programs = []
        self.identity = {}
        for old in glob.glob(f"/dev/shm/{PREFIX}*-programs"):
            pid = os.path.basename(old)[len(PREFIX):].split("-")[0]
            if not os.path.exists(f"/proc/{pid}"):
                shutil.rmtree(old, ignore_errors=True)
        self.root = pathlib.Path(f"/dev/shm/{PREFIX}{os.getpid()}-programs")
        self.scratch = self.root / "scratch"
        self.fabric = self.root / "fabric"
        # Programs of ours keep their connections until this exists: `dibsock ss` has shown them.
        self.seen = self.scratch / "seen"
        self.root.mkdir(0o700)
        self.scratch.mkdir()
        self.fabric.mkdir(0o700)
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith("DIBSOCK") and name != "LD_PRELOAD"}
        if not IS_LONG:
            # A reader that gets no CPU for long, on a busy machine, is not the test's matter.
            self.environment["DIBSOCK_PATIENCE_US"] = "1000000"
        if SEED:
            self.environment["DIBSOCK_CHAOS"] = SEED
        self.environment.update(DIBSOCK_FABRIC=str(self.fabric), HOME=str(self.scratch), LC_ALL="C")

    def __enter__(self):
        self.watchdog = Watchdog(self.root)
        return self

    def __exit__(self, kind, error, trace):
        for program in self.programs:
            program.kill()
            if kind is not None and kind is not SystemExit:
                print(f"--- {program.name}:\n{program.output()[-4000:]}", file=sys.stderr)
        self.watchdog.end()
        shutil.rmtree(self.root, ignore_errors=True)

    def become(self, user):
        """Programs run as this user from here on, and the fabric is this user's. Needs root."""
        try:
            known = pwd.getpwnam(user)
        except KeyError:
            skip(f"there is no user {user}")
        self.identity = {"user": known.pw_uid, "group": known.pw_gid, "extra_groups": []}
        reach = subprocess.run(["test", "-x", self.dibsock], **self.identity, check=False)
        if reach.returncode != 0:
            skip(f"{user} cannot reach {self.dibsock}")
        for directory in self.root, self.scratch, self.fabric:
            os.chown(directory, known.pw_uid, known.pw_gid)

    def start(self, *command, under=True):
        """Starts a program, under `dibsock run` or as it is."""
        command = [str(word) for word in command]
        name = f"{len(self.programs)}-{os.path.basename(command[0])}"
        if under:
            command = [self.dibsock, "run", "--", *command]
        program = Program(name, command, self.scratch / f"{name}.log", self.environment,
                          self.scratch, self.identity)
        self.programs.append(program)
        self.watchdog.tell(program.process.pid)
        return program

    def serve(self, port, *command, under=True):
        """Starts a server, and waits until it listens."""
        server = self.start(*command, under=under)
        wait_until(f"{server.name} listens",
                   lambda: is_listening(port) or not server.is_running())
        require(server.is_running(), f"{server.name} did not start")
        return server

    def connections(self, port):
        """What `dibsock ss` shows of the connections of a port."""
        shown = subprocess.run([self.dibsock, "ss", "--json"], env=self.environment,
                               capture_output=True, text=True, timeout=30)
        require(shown.returncode == 0, f"dibsock ss failed: {shown.stderr}")
        return [end for end in json.loads(shown.stdout)
                if port in (end["local_port"], end["peer_port"])]

    def require_smcd(self, port, program, count=1, *more_ports):
        """While the program runs: `count` connections of each port send through memory."""
        if SEED:  # refusals are part of it
            self.seen.touch()
            return
        def is_in_memory(port):
            return count <= sum(end["mode"] == "SMCD" and end["tx"]["lane"] == "dmb"
                                for end in self.connections(port))
        wait_until(f"dibsock ss shows {count} x SMCD", lambda: (
            all(map(is_in_memory, (port, *more_ports))) or not program.is_running()))
        require(program.is_running(), f"dibsock ss did not show {count} x SMCD in time")
        self.seen.touch()

    def require_tcp(self, port, program, seconds=40):
        """For as long as the program runs: no connection is SMC-D."""
        seen = []
        def look():
            seen.extend(self.connections(port))
            if seen:
                self.seen.touch()
            return not program.is_running()
        wait_until(f"{program.name} ends", look, seconds)
        left = [end for end in seen if end["mode"] != "TCP"]
        require(not left, f"not all is TCP: {left[:2]}")
        require(seen, "dibsock ss showed no connection")
        print(f"dibsock ss showed {len(seen)} times TCP")


def has_clc(stream):
    """Is there a CLC message, or the begin of one? Random bytes have eyecatchers now and then."""
    for found in EYECATCHER.finditer(stream):
        header = stream[found.start():found.start() + 8]
        if len(header) < 8:
            return True
        kind, size, version = header[4], int.from_bytes(header[5:7], "big"), header[7] >> 4
        if kind not in CLC_TYPES or version not in CLC_VERSIONS or size not in CLC_SIZES:
            continue
        trailer = stream[found.start() + size - 4:found.start() + size]
        if len(trailer) < 4 or EYECATCHER.fullmatch(trailer):
            return True
    return False


class Lo:
    """How much the interface carries, from here on."""

    def __init__(self):
        self.before = lo_bytes()

    def require_below(self, share, payload, start=0):
        """Only a namespace of our own carries nothing of others."""
        require(payload > 0, "there was no payload")
        growth = lo_bytes() - self.before
        print(f"payload {payload}, lo {growth}: {growth / payload:.4%}")
        if os.environ.get("DIBSOCK_TEST_NAMESPACE") and not SEED:
            require(growth < share * payload + start,
                    f"the payload went over TCP: not below {share:.0%} and {start} bytes")
        else:
            print("lo is shared with others, or the seed decides: not judged")


class Capture:
    """Packets of one TCP port, from creation to stop()."""

    def __init__(self, stage, port):
        need("dumpcap", "tshark")
        self.stage, self.port = stage, port
        self.file = stage.scratch / "capture.pcapng"
        self.dumpcap = stage.start("dumpcap", "-q", "-i", "lo", "-B", "64", "-w", self.file, "-f",
                                   f"tcp port {port} or udp port {port}", under=False)
        wait_until("dumpcap captures",
                   lambda: "File: " in self.dumpcap.output() or not self.dumpcap.is_running())
        if not self.dumpcap.is_running():
            skip(f"capturing is not permitted: {self.dumpcap.output()}")

    def stop(self):
        """A last packet of our own tells when all before it are in the file."""
        last = b"dibsock-test: the last packet"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(last, (HOST, self.port))
        wait_until("all packets are in the file", lambda: last in self.file.read_bytes())
        self.dumpcap.stop(signal.SIGINT)

    def tshark(self, *options):
        done = subprocess.run(["tshark", "-n", "-r", self.file, *options], text=True,
                              capture_output=True, env=self.stage.environment, timeout=60)
        require(done.returncode == 0, f"tshark failed: {done.stderr}")
        return done.stdout

    def streams(self):
        """What each end of each connection sent, in order."""
        streams = {}
        fields = self.tshark("-Y", "tcp.len > 0", "-T", "fields", "-e", "tcp.stream",
                             "-e", "tcp.srcport", "-e", "tcp.payload")
        for line in fields.splitlines():
            stream, source, payload = line.split("\t")
            streams.setdefault((stream, source), bytearray()).extend(bytes.fromhex(payload))
        return list(streams.values())

    def require_no_clc(self, least):
        """In all that was sent: at least so many bytes."""
        streams = self.streams()
        size = sum(map(len, streams))
        require(not any(map(has_clc, streams)), "a CLC message was sent")
        require(size >= least, f"{size} of {least} bytes were captured")
        print(f"no CLC message in {size} bytes of {len(streams)} streams")


def enter_namespace():
    """Starts this test again in a network namespace of its own, if that can be made."""
    if os.environ.get("DIBSOCK_TEST_NAMESPACE"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    if not (shutil.which("unshare") and shutil.which("ip")):
        return
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    up = subprocess.run([*unshare, "ip", "link", "set", "lo", "up"], capture_output=True)
    if up.returncode == 0:
        os.environ["DIBSOCK_TEST_NAMESPACE"] = "yes"
        os.execvp("unshare", [*unshare, sys.executable, "-B", *sys.argv])


def terminate(*_):
    raise SystemExit(128 + signal.SIGTERM)


def main(cases):
    """Runs the case named on the command line: FILE DIBSOCK CASE."""
    if len(sys.argv) != 3 or sys.argv[2] not in cases:
        sys.exit(f"usage: {sys.argv[0]} DIBSOCK {'|'.join(cases)}")
    enter_namespace()
    signal.signal(signal.SIGTERM, terminate)
    try:
        with Stage(os.path.abspath(sys.argv[1])) as stage:
            cases[sys.argv[2]](stage)
    except (Failure, subprocess.TimeoutExpired) as failure:
        sys.exit(f"FAILED: {failure}")
