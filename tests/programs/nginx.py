# SPDX-License-Identifier: Apache-2.0
"""nginx with two workers and sendfile: nginx.py DIBSOCK CASE

Its workers run as the user that the configuration names. Those of another user
than the fabric's cannot enter it, and serve over TCP.
"""
import os
import shlex
import signal

import web
from stage import IS_LONG, START, Lo, group_members, is_listening, main, need_root, wait_until


def on_memory(stage):
    server, port, digests = web.serve_nginx(stage)
    lo = Lo()
    client = web.fetch(stage, port, digests, rounds=100 if IS_LONG else 20)
    stage.require_smcd(port, client, 4)
    lo.require_below(0.05, web.fetched_bytes(client.wait()), 4 * START)
    for name, connections in ("612", 16), ("65537", 4):
        client = web.wrk(stage, port, name, connections, 5 if IS_LONG else 2)
        stage.require_smcd(port, client, connections)
        web.require_wrk(client.wait())
    for keep_alive in True, False:
        web.require_ab(web.ab(stage, port, "65537", 2000, keep_alive=keep_alive).wait(), 2000)
    server.stop(signal.SIGQUIT)


def reload(stage):
    """New workers take over while clients are served; the old ones end."""
    server, port, digests = web.serve_nginx(stage)
    load = web.wrk(stage, port, "612", 8, 30)
    stage.require_smcd(port, load, 8)
    for _ in range(5):
        old = set(group_members(server.process.pid)) - {server.process.pid}
        client = web.fetch(stage, port, digests, rounds=4)
        server.process.send_signal(signal.SIGHUP)
        client.wait()
        wait_until("the old workers have ended",
                   lambda: not old & set(group_members(server.process.pid)))
    stage.require_smcd(port, load, 8)
    load.process.send_signal(signal.SIGINT)
    # A request may cross with the close of its connection.
    print(load.wait())
    server.stop(signal.SIGQUIT)


def upgrade(stage):
    """Another nginx takes the listener over by exec, and the first one ends."""
    port, digests, command = web.prepare_nginx(stage)
    told = stage.scratch / "nginx.pid"
    # It takes no new binary while it is the child of who started it.
    shell = stage.start("sh", "-c", f"{shlex.join(map(str, command))} & "
                        f"until test -s {told}; do sleep 0.01; done")
    shell.wait()
    wait_until("nginx listens", lambda: is_listening(port))

    def other_pid(than=0):
        pid = int(told.read_text() or 0) if told.exists() else 0
        return pid if pid not in (0, than) else None
    first = wait_until("nginx has told its pid", other_pid)
    os.kill(first, signal.SIGUSR2)
    second = wait_until("the new nginx has told its pid", lambda: other_pid(than=first))
    os.kill(first, signal.SIGQUIT)
    wait_until("the first nginx has ended",
               lambda: first not in group_members(shell.process.pid))
    client = web.fetch(stage, port, digests)
    stage.require_smcd(port, client, 4)
    client.wait()
    os.kill(second, signal.SIGQUIT)
    wait_until("the new nginx has ended", lambda: not group_members(shell.process.pid))


def other_user(stage):
    need_root()
    stage.root.chmod(0o711)
    stage.scratch.chmod(0o711)
    server, port, digests = web.serve_nginx(stage, user="www-data")
    client = web.fetch(stage, port, digests)
    stage.require_tcp(port, client)
    client.wait()
    client = web.wrk(stage, port, "612", 16, 1)
    stage.require_tcp(port, client)
    web.require_wrk(client.wait())
    server.stop(signal.SIGQUIT)


main({"memory": on_memory, "reload": reload, "upgrade": upgrade, "other_user": other_user})
