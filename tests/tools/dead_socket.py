"""Makes the file of a unix socket on which no process listens, as SIGKILL leaves it.

    dead_socket.py PATH
"""

import socket
import sys

socket.socket(socket.AF_UNIX).bind(sys.argv[1])
