# SPDX-License-Identifier: Apache-2.0
"""What the tests of HTTP servers share: nginx, files to serve, and clients."""
import hashlib
import pathlib
import random
import re
import shutil
import sys

from stage import HOST, SECONDS, free_port, need, require

SIZES = 1, 612, 65_537, 8 << 20
FETCH = pathlib.Path(__file__).resolve().parent / "fetch.py"

NGINX = """
user {user};
# nginx gives a new binary only what is named.
env LD_PRELOAD;
env DIBSOCK_FABRIC;
env DIBSOCK_PATIENCE_US;
env DIBSOCK_CHAOS;
worker_processes 2;
daemon off;
pid {scratch}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000;
  client_body_temp_path {scratch}/body;
  proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi;
  scgi_temp_path {scratch}/scgi;
  uwsgi_temp_path {scratch}/uwsgi;
  server {{
    listen {host}:{port};
    root {scratch}/www;
  }}
}}
"""


def make_files(stage):
    """Files of several sizes under scratch/www; gives name -> digest."""
    made, digests = random.Random(1), {}
    www = stage.scratch / "www"
    www.mkdir()
    for size in SIZES:
        content = made.randbytes(size)
        (www / f"{size}").write_bytes(content)
        digests[f"{size}"] = hashlib.sha256(content).hexdigest()
    return digests


def prepare_nginx(stage, user="root"):
    """Gives its port, the digests of what it serves, and its command."""
    need("nginx", "wrk", "ab")
    port, digests = free_port(), make_files(stage)
    configuration = stage.scratch / "nginx.conf"
    configuration.write_text(
        NGINX.format(user=user, scratch=stage.scratch, host=HOST, port=port))
    # Named in full: that is how a new one is found.
    return port, digests, (shutil.which("nginx"), "-e", "stderr", "-c", configuration)


def serve_nginx(stage, user="root"):
    """Gives the server, its port, and the digests of what it serves."""
    port, digests, command = prepare_nginx(stage, user)
    return stage.serve(port, *command), port, digests


def fetch(stage, port, digests, threads=4, rounds=8, under=True):
    """Starts a client that checks what it gets."""
    return stage.start(sys.executable, FETCH, port, threads, rounds,
                       *(f"{name}={digest}" for name, digest in digests.items()), under=under)


def fetched_bytes(output):
    return int(re.search(r"bytes (\d+)", output)[1])


def wrk(stage, port, name, connections=16, seconds=SECONDS, under=True):
    return stage.start("wrk", "-t", 2, "-c", connections, "-d", f"{seconds}s", "--timeout", "20s",
                       f"http://{HOST}:{port}/{name}", under=under)


def require_wrk(output):
    """No request failed. Gives how many there were."""
    for word in "Socket errors", "Non-2xx":
        require(word not in output, f"wrk: {output}")
    count = int(re.search(r"(\d+) requests in", output)[1])
    require(count > 0, f"wrk has done nothing: {output}")
    print(f"wrk: {count} requests")
    return count


def ab(stage, port, name, requests, connections=8, keep_alive=True, under=True):
    return stage.start("ab", "-q", *(["-k"] if keep_alive else []), "-n", requests,
                       "-c", connections, f"http://{HOST}:{port}/{name}", under=under)


def require_ab(output, requests):
    done = int(re.search(r"Complete requests: +(\d+)", output)[1])
    failed = int(re.search(r"Failed requests: +(\d+)", output)[1])
    require((done, failed) == (requests, 0) and "Non-2xx" not in output, f"ab: {output}")
    print(f"ab: {re.search(r'Requests per second: +([0-9.]+)', output)[1]} requests/s")
