# SPDX-License-Identifier: Apache-2.0
"""A plain HTTP client with several connections: fetch.py PORT THREADS ROUNDS NAME=SHA256...

Each thread fetches all the names again and again. A server may close a connection
between two requests; then, and only before the first byte of an answer, it is
asked once more. Goes on until the test has seen its connections: a file tells. Prints how often
it asked again, and how many bytes came.
"""
import hashlib
import http.client
import os
import sys
import threading

HOST = "127.0.0.1"
CLOSED = http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError


class Fetcher(threading.Thread):
    def __init__(self, port, rounds, wanted):
        super().__init__()
        self.connection = http.client.HTTPConnection(HOST, port, timeout=30)
        self.rounds, self.wanted = rounds, wanted
        self.size = self.again = 0
        self.wrong = "it did not end"

    def ask(self, name):
        for is_last in False, False, True:
            try:
                self.connection.request("GET", f"/{name}")
                return self.connection.getresponse()
            except CLOSED:
                self.connection.close()
                self.again += 1
                if is_last:
                    raise

    def fetch(self, name, digest):
        answer, seen, size = self.ask(name), hashlib.sha256(), 0
        while block := answer.read(1 << 16):
            seen.update(block)
            size += len(block)
        if answer.status != 200 or seen.hexdigest() != digest:
            raise ValueError(f"{name}: status {answer.status}, {size} bytes, other content")
        self.size += size

    def run(self):
        try:
            rounds = 0
            while rounds < self.rounds or not os.path.exists("seen"):
                rounds += 1
                for name, digest in self.wanted:
                    self.fetch(name, digest)
            self.wrong = None
        except Exception as error:
            self.wrong = repr(error)
        self.connection.close()


def main(port, threads, rounds, *wanted):
    pairs = [word.split("=") for word in wanted]
    fetchers = [Fetcher(int(port), int(rounds), pairs) for _ in range(int(threads))]
    for fetcher in fetchers:
        fetcher.start()
    for fetcher in fetchers:
        fetcher.join()
    wrong = [fetcher.wrong for fetcher in fetchers if fetcher.wrong]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"bytes {sum(fetcher.size for fetcher in fetchers)}")
    print(f"again {sum(fetcher.again for fetcher in fetchers)}")


main(*sys.argv[1:])
