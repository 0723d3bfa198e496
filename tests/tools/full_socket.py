"""Makes a unix socket whose queue is full, and keeps it so until it is ended. Prints `full` once it is.

    full_socket.py PATH
"""

import signal
import socket
import sys

full = socket.socket(socket.AF_UNIX)
full.bind(sys.argv[1])
full.listen(0)
held = []
while True:
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    try:
        client.connect(sys.argv[1])
    except BlockingIOError:
        break
    held.append(client)
print("full", flush=True)
signal.pause()
