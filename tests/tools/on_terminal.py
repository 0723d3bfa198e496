"""Runs a command on a pseudo-terminal, whose output goes to stdout; closes the terminal when stdin ends."""
import os
import pty
import select
import sys

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    for file in select.select([terminal, 0], [], [])[0]:
        try:
            data = os.read(file, 4096)
        except OSError:
            data = b""
        if not data:
            sys.exit()
        if file == terminal:
            os.write(1, data)
