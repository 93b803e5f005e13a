# SPDX-License-Identifier: Apache-2.0
"""haproxy in front of nginx, both legs: haproxy.py DIBSOCK CASE"""
import signal

import web
from stage import HOST, IS_LONG, START, Lo, free_port, main, need

CONFIGURATION = """
global
  nbthread 2
  maxconn 200
defaults
  mode {mode}
  {option}
  timeout connect 10s
  timeout client 30s
  timeout server 30s
frontend front
  bind {host}:{front}
  default_backend back
backend back
  server nginx {host}:{back}
"""


def serve(stage, mode, option):
    need("haproxy")
    _, back, digests = web.serve_nginx(stage)
    front, configuration = free_port(), stage.scratch / "haproxy.cfg"
    configuration.write_text(
        CONFIGURATION.format(mode=mode, option=option, host=HOST, front=front, back=back))
    return stage.serve(front, "haproxy", "-db", "-f", configuration), front, back, digests


def on_memory(stage, mode, option):
    server, front, back, digests = serve(stage, mode, option)
    lo = Lo()
    client = web.fetch(stage, front, digests, rounds=100 if IS_LONG else 16)
    stage.require_smcd(front, client, 4, back)
    lo.require_below(0.05, 2 * web.fetched_bytes(client.wait()), 2 * 4 * START)
    client = web.wrk(stage, front, "612", 16, 5 if IS_LONG else 2)
    stage.require_smcd(front, client, 16)
    web.require_wrk(client.wait())
    web.require_ab(web.ab(stage, front, "65537", 1000).wait(), 1000)
    server.stop(signal.SIGTERM)


main({
    "http": lambda stage: on_memory(stage, "http", "option http-keep-alive"),
    "tcp": lambda stage: on_memory(stage, "tcp", ""),
    "splice": lambda stage: on_memory(stage, "tcp", "option splice-auto"),
})
