"""Sends ten thousand packets about iroh endpoints, each about another one; half of them are malformed.

Prints `half` after the first half.
"""

import os
import random
import struct
import time

import mdns

COUNT = 10_000
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def pointer(offset):
    """Returns a compressed name: a pointer to another one."""
    return struct.pack(">H", 0xC000 | offset)


def chain_of_names():
    """Returns a packet whose names point to names, as often as a packet permits."""
    first = mdns.name("_irohv1")
    chain = first + b"".join(pointer(12 if j == 0 else 19 + 2 * j) for j in range(600))
    return mdns.header(mdns.RESPONSE, answers=65535) + chain + pointer(12 + len(chain) - 2) * 100


group = mdns.join_group()
random.seed(7)
for i in range(COUNT):
    key = "".join(random.choice(ALPHABET) for _ in range(52))
    packet = mdns.response(key, 9, "10.77.0.3")
    if i % 10 == 1:
        packet = packet[: random.randrange(len(packet))]
    if i % 10 == 2:
        packet = os.urandom(random.randrange(1, 1400))
    if i % 10 == 3:
        packet = packet + os.urandom(8500)
    if i % 10 == 4:
        packet = mdns.header(mdns.RESPONSE, answers=65535, additional=65535) + pointer(12) * 100
    if i % 10 == 5:
        packet = mdns.question()
    if i % 10 == 6:
        packet = chain_of_names()
    mdns.send(group, packet)
    if i % 50 == 0:
        time.sleep(0.02)
    if i == COUNT / 2:
        print("half", flush=True)
