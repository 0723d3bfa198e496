"""Holds a UDP port of 127.0.0.1 until it is ended. Prints `held` once it does.

    hold_udp_port.py PORT
"""

import signal
import socket
import sys

held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
held.bind(("127.0.0.1", int(sys.argv[1])))
print("held", flush=True)
signal.pause()
