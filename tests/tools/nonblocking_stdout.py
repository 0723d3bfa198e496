"""Connects with a stdout that is a non-blocking pipe, and reads it slowly.

    nonblocking_stdout.py ADDRESS

Prints the SHA-256 checksum of what came, and the exit status.
"""

import hashlib
import os
import subprocess
import sys
import time

reading_end, writing_end = os.pipe()
os.set_blocking(writing_end, False)
command = ["git-annex-p2p-iroh", sys.argv[1]]
child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing_end)
os.close(writing_end)
checksum = hashlib.sha256()
while part := os.read(reading_end, 20000):
    checksum.update(part)
    time.sleep(0.005)
print(checksum.hexdigest(), child.wait())
