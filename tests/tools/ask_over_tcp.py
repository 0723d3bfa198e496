"""Makes TCP connections to a port of 127.0.0.1 one after another, and sends a question on each.

    ask_over_tcp.py PORT COUNT

Waits up to 10 s for the port to be open. Prints what came back on each connection, joined by `|`.
"""

import socket
import sys
import time

port, count = int(sys.argv[1]), int(sys.argv[2])


def connect():
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def ask(question):
    with connect() as connection:
        connection.sendall(question.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    return answer.decode()


print("|".join(ask(f"question {i}") for i in range(count)))
