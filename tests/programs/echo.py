# SPDX-License-Identifier: Apache-2.0
"""A plain TCP program: echo.py serve PORT | echo.py talk PORT ROUNDS"""
import socket
import sys

HOST = "127.0.0.1"
MESSAGE = b"what is said comes back. " * 8


def receive(connection, size):
    received = b""
    while len(received) < size and (more := connection.recv(size - len(received))):
        received += more
    return received


def serve(port):
    with socket.create_server((HOST, port)) as listener:
        connection, _ = listener.accept()
        with connection:
            while message := receive(connection, len(MESSAGE)):
                connection.sendall(message)


def talk(port, rounds):
    with socket.create_connection((HOST, port)) as connection:
        for _ in range(rounds):
            connection.sendall(MESSAGE)
            if receive(connection, len(MESSAGE)) != MESSAGE:
                sys.exit("another message came back")


if __name__ == "__main__":
    {"serve": serve, "talk": talk}[sys.argv[1]](*map(int, sys.argv[2:]))
