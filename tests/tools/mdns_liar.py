"""Answers each question about iroh endpoints with wrong addresses of one endpoint, before it can answer.

    mdns_liar.py KEY PORT OTHER_PORT...

Says that the endpoint KEY, which is at PORT, is at other hosts, and that it is at each OTHER_PORT.
"""

import sys

import mdns

key, port, *other_ports = sys.argv[1:]
lies = [
    *(mdns.response(key, int(other), "10.77.0.1") for other in other_ports),
    mdns.response(key, 9, "10.77.0.1", "10.77.0.99", "10.77.0.254"),
    mdns.response(key, int(port), "192.0.2.1", "127.0.0.1"),
    mdns.response(key, 0, "10.77.0.1"),
    mdns.response(key, int(port), "224.0.0.251"),
    mdns.response(key, 10, "10.77.0.1"),
]
group = mdns.join_group()
print("lying", flush=True)
while True:
    packet, _ = group.recvfrom(9000)
    if mdns.asks_for_iroh(packet):
        for lie in lies:
            mdns.send(group, lie)
