# SPDX-License-Identifier: Apache-2.0
"""Servers and clients made of what Python has: python_ends.py NAME serve|talk PORT [ROUNDS]

Each talk() checks what comes back, keeps its connections until the test has seen them (a
file tells), and prints how many bytes it got. A server serves until it is told to end by SIGTERM.
"""
import asyncio
import hashlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.managers
import os
import random
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time

HOST = "127.0.0.1"
CLIENTS = 4
KEY = b"of both ends"


def messages(seed, rounds):
    made = random.Random(seed)
    for _ in range(rounds):
        for size in 1, 100, 5000, 70_000, 1 << 20:
            yield made.randbytes(size)


def require(condition, what):
    if not condition:
        raise ValueError(what)


def are_seen():
    return os.path.exists("seen")


def wait_until_seen():
    while not are_seen():
        time.sleep(0.005)


def in_threads(converse):
    """Runs converse(number) for each client, and gives the sum of what they give."""
    totals, errors = [], []

    def run(number):
        try:
            totals.append(converse(number))
        except Exception as error:
            errors.append(repr(error))
    threads = [threading.Thread(target=run, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not errors, errors)
    return sum(totals)


# ---- asyncio streams ---------------------------------------------------------

class Asyncio:
    @staticmethod
    def serve(port):
        async def echo(reader, writer):
            while block := await reader.read(1 << 16):
                writer.write(block)
                await writer.drain()
            writer.close()

        async def run():
            async with await asyncio.start_server(echo, HOST, port) as server:
                await server.serve_forever()
        asyncio.run(run())

    @staticmethod
    def talk(port, rounds):
        async def converse(number):
            reader, writer = await asyncio.open_connection(HOST, port)
            total = 0
            for message in messages(number, rounds):
                writer.write(message)  # read while it is being sent: it may be large
                require(await reader.readexactly(len(message)) == message, "another message")
                total += len(message)
            while not are_seen():
                await asyncio.sleep(0.005)
            writer.write_eof()
            require(await reader.read() == b"", "more came back")
            writer.close()
            await writer.wait_closed()
            return total

        async def run():
            return sum(await asyncio.gather(*map(converse, range(CLIENTS))))
        return asyncio.run(run())


# ---- multiprocessing.connection ----------------------------------------------

class Connection:
    @staticmethod
    def serve(port):
        def echo(connection):
            try:
                while True:
                    connection.send(connection.recv())
            except EOFError:
                connection.close()
        with multiprocessing.connection.Listener((HOST, port), authkey=KEY) as listener:
            while True:
                threading.Thread(target=echo, args=(listener.accept(),), daemon=True).start()

    @staticmethod
    def talk(port, rounds):
        def converse(number):
            total = 0
            with multiprocessing.connection.Client((HOST, port), authkey=KEY) as connection:
                for count, message in enumerate(messages(number, rounds)):
                    connection.send({"count": count, "message": message})
                    require(connection.poll(30), "nothing comes back")
                    back = connection.recv()
                    require(back == {"count": count, "message": message}, "another object")
                    total += len(message)
                wait_until_seen()
            return total
        return in_threads(converse)


# ---- multiprocessing.managers ------------------------------------------------

class Manager:
    class Known(multiprocessing.managers.BaseManager):
        pass

    @classmethod
    def serve(cls, port):
        shared = {}
        cls.Known.register("shared", lambda: shared, multiprocessing.managers.DictProxy)
        cls.Known((HOST, port), KEY).get_server().serve_forever()

    @classmethod
    def talk(cls, port, rounds):
        """Processes of their own put things, and this one finds all of them."""
        cls.Known.register("shared", proxytype=multiprocessing.managers.DictProxy)

        def connect():
            manager = cls.Known((HOST, port), KEY)
            manager.connect()
            return manager.shared()

        def put(number):
            shared = connect()
            for count, message in enumerate(messages(number, rounds)):
                shared[number, count] = message
            for count, message in enumerate(messages(number, rounds)):
                require(shared[number, count] == message, "another value")
            wait_until_seen()
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=put, args=(n,)) for n in range(CLIENTS)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        require(all(process.exitcode == 0 for process in processes), "a process failed")
        found = connect().copy()
        wanted = {(number, count): message for number in range(CLIENTS)
                  for count, message in enumerate(messages(number, rounds))}
        require(found == wanted, "other things were put")
        return sum(map(len, wanted.values()))


# ---- socketserver ------------------------------------------------------------

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            size = int(line)
            body = self.rfile.read(size)
            self.wfile.write(b"%s\n" % hashlib.sha256(body).hexdigest().encode() + body)


class Server(socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 16


class Socketserver:
    kind = None

    @classmethod
    def serve(cls, port):
        class Mixed(cls.kind, Server):
            daemon_threads = True
        with Mixed((HOST, port), Echo) as server:
            server.serve_forever()

    @classmethod
    def talk(cls, port, rounds):
        def converse(number):
            total = 0
            with socket.create_connection((HOST, port)) as connection:
                connection.settimeout(30)
                with connection.makefile("rwb") as file:
                    for message in messages(number, rounds):
                        file.write(b"%d\n" % len(message) + message)
                        file.flush()
                        digest = file.readline().strip().decode()
                        require(digest == hashlib.sha256(message).hexdigest(), "another digest")
                        require(file.read(len(message)) == message, "another message")
                        total += len(message)
                    wait_until_seen()
            return total
        return in_threads(converse)


class Threading(Socketserver):
    kind = socketserver.ThreadingMixIn


class Activated(Threading):
    """Serves on a listener that it was given, as number 3."""

    @classmethod
    def serve(cls, port):
        class Given(socketserver.ThreadingMixIn, Server):
            daemon_threads = True
        with Given((HOST, port), Echo, bind_and_activate=False) as server:
            server.socket.close()
            server.socket = socket.socket(fileno=3)
            server.serve_forever()


class Forking(Socketserver):
    kind = socketserver.ForkingMixIn


# ---- subprocess --------------------------------------------------------------

class Inherited(Socketserver):
    """Another program, started by exec, serves the connection as its standard input and output."""

    @staticmethod
    def serve(port):
        with socket.create_server((HOST, port)) as listener:
            while True:
                connection, _ = listener.accept()
                with connection:
                    subprocess.Popen([sys.executable, __file__, "Inherited", "answer", "0"],
                                     stdin=connection, stdout=connection)

    @staticmethod
    def answer(_):
        connection = socket.socket(fileno=os.dup(0))
        Echo(connection, connection.getpeername(), None)


def main(name, verb, port, *rounds):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    total = getattr(globals()[name], verb)(int(port), *map(int, rounds))
    if verb == "talk":
        print(f"bytes {total}")


if __name__ == "__main__":
    main(*sys.argv[1:])
