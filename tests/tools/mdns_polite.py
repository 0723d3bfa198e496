"""Answers questions about iroh endpoints as iroh does: after up to 100 ms, unless two others have answered.

    mdns_polite.py KEY

Says that the endpoint KEY is at port 9 of 10.77.0.1.
"""

import random
import select
import sys
import time

import mdns

answer = mdns.response(sys.argv[1], 9, "10.77.0.1")
group = mdns.join_group()
print("ready", flush=True)
while True:
    packet, _ = group.recvfrom(9000)
    if not mdns.asks_for_iroh(packet):
        continue
    until, others = time.monotonic() + random.random() / 10, 0
    while (left := until - time.monotonic()) > 0 and select.select([group], [], [], left)[0]:
        others += mdns.is_response(group.recvfrom(9000)[0])
    if others < 2:
        mdns.send(group, answer)
