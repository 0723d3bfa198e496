"""Exits 0 if a TCP port of 127.0.0.1 accepts connections.

    probe_tcp_port.py PORT
"""

import socket
import sys

socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
