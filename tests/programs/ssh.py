# SPDX-License-Identifier: Apache-2.0
"""OpenSSH: ssh.py DIBSOCK CASE

sshd accepts, forks, and becomes itself anew by exec with the connection as standard
input; then a process of it gives up its rights. What it inherited by exec stays on TCP.
"""
import contextlib
import hashlib
import pathlib
import random

from stage import HOST, IS_LONG, free_port, main, need, need_root, require

CONFIGURATION = """
ListenAddress {host}:{port}
HostKey {scratch}/host_key
AuthorizedKeysFile {scratch}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
Subsystem sftp internal-sftp
"""
SIZE = (500 if IS_LONG else 50) << 20


@contextlib.contextmanager
def separation():
    """sshd wants an empty directory, which only its own start script makes."""
    directory = pathlib.Path("/run/sshd")
    is_ours = not directory.exists()
    if is_ours:
        directory.mkdir(0o755)
    try:
        yield
    finally:
        if is_ours:
            directory.rmdir()


def options(stage, port):
    given = {
        "Port": port, "IdentityFile": stage.scratch / "user_key", "IdentitiesOnly": "yes",
        "UserKnownHostsFile": stage.scratch / "known_hosts", "StrictHostKeyChecking": "no",
        "BatchMode": "yes", "LogLevel": "ERROR",
    }
    return ["-F", "none", *(f"-o{name}={value}" for name, value in given.items())]


def serve(stage):
    need("sshd", "ssh", "scp", "ssh-keygen")
    need_root()
    for key in "host_key", "user_key":
        stage.start("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stage.scratch / key,
                    under=False).wait()
    port, configuration = free_port(), stage.scratch / "sshd_config"
    configuration.write_text(CONFIGURATION.format(host=HOST, port=port, scratch=stage.scratch))
    # By its absolute name, as it asks for.
    return port, stage.serve(port, "/usr/sbin/sshd", "-D", "-e", "-f", configuration)


def ask(stage, port, command):
    return stage.start("ssh", *options(stage, port), f"root@{HOST}", command)


def commands(stage):
    port, server = serve(stage)
    for i in range(3):
        output = ask(stage, port, f"echo {i} of $SSH_CONNECTION").wait()
        require(output.startswith(f"{i} of {HOST} ") and output.endswith(f"{port}\n"), output)
    failing = ask(stage, port, "exit 7")
    require(failing.process.wait(40) == 7, "another exit status came back")
    output = ask(stage, port, "seq 1000000").wait()
    require(output == "".join(f"{n}\n" for n in range(1, 1_000_001)), "other lines came back")
    server.stop()


def copy(stage):
    port, server = serve(stage)
    content = random.Random(1).randbytes(SIZE)
    (stage.scratch / "there").write_bytes(content)
    for source, target in (("there", f"root@{HOST}:{stage.scratch}/copy"),
                           (f"root@{HOST}:{stage.scratch}/copy", "back")):
        client = stage.start("scp", "-q", *options(stage, port), source, target)
        stage.require_tcp(port, client)
        client.wait()
    wanted = hashlib.sha256(content).digest()
    for name in "copy", "back":
        found = hashlib.sha256((stage.scratch / name).read_bytes()).digest()
        require(found == wanted, f"{name} has other content")
    server.stop()


def separated(case):
    def play(stage):
        with separation():
            case(stage)
    return play


main({"commands": separated(commands), "copy": separated(copy)})
