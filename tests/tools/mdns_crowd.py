"""Sends wrong addresses of an endpoint from many senders, without end.

    mdns_crowd.py KEY SENDERS LIES [HOST:PORT]

Sends from 10.77.0.100 and the addresses after it, SENDERS in all. Each sender says that the endpoint KEY is
at the first LIES ports from 9 on of the sender's address, where nothing answers. The first sender also says
that it is at HOST:PORT, where another endpoint is.
"""

import socket
import sys
import time

import mdns

key, count, lies, other = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
senders = []
for i in range(count):
    host = f"10.77.0.{100 + i}"
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((host, 0))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host))
    senders.append((sender, host))
print("lying", flush=True)
while True:
    for port in range(9, 9 + lies):
        for sender, host in senders:
            mdns.send(sender, mdns.response(key, port, host))
        if other:
            other_host, other_port = other.split(":")
            mdns.send(senders[0][0], mdns.response(key, int(other_port), other_host))
        time.sleep(0.02)
