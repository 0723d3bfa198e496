"""Joins two network namespaces by a long cable, which delays each Ethernet frame.

    delay_link.py HOST_NAMESPACE ADDRESS/BITS HUB_NAMESPACE PORT_NAME BRIDGE MILLISECONDS

The cable's ends are eth0 of the host and a port of the hub's bridge. Prints `ready` once it is plugged in, and
runs until it is ended. It carries some tens of thousands of frames a second, and holds some thousands that
come at once, as the routers of a long path do.
"""

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
# Maximum number of frames that wait at each end.
QUEUE_LENGTH = "5000"


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def tap(name, namespace):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    ip("link", "set", name, "netns", namespace)
    return fd


host, address, hub, port, bridge, milliseconds = sys.argv[1:]
delay = float(milliseconds) / 1000
ends = [tap(f"near{os.getpid()}", host), tap(f"far{os.getpid()}", hub)]
ip("-n", host, "link", "set", f"near{os.getpid()}", "name", "eth0")
ip("-n", host, "addr", "add", address, "dev", "eth0")
ip("-n", host, "link", "set", "eth0", "txqueuelen", QUEUE_LENGTH, "up")
ip("-n", hub, "link", "set", f"far{os.getpid()}", "name", port)
ip("-n", hub, "link", "set", port, "master", bridge, "txqueuelen", QUEUE_LENGTH, "up")
print("ready", flush=True)
waiting = deque()
while True:
    now = time.monotonic()
    while waiting and waiting[0][0] <= now:
        _, end, frame = waiting.popleft()
        try:
            os.write(end, frame)
        except (BlockingIOError, OSError):
            pass  # the queue is full, so the frame is lost
    timeout = max(0.0, waiting[0][0] - now) if waiting else None
    for fd in select.select(ends, [], [], timeout)[0]:
        other = ends[1] if fd == ends[0] else ends[0]
        for _ in range(256):
            try:
                frame = os.read(fd, 65535)
            except BlockingIOError:
                break
            waiting.append((time.monotonic() + delay, other, frame))
