"""Prints each packet about iroh's service that the multicast group receives.

    mdns_ear.py [ADDRESS | INTERFACE]

Listens over IPv4 on the interface that has ADDRESS, or over IPv6 on INTERFACE. Prints `ready`, then one
line a packet: `query from HOST`, `response from HOST ADDRESS...` or `goodbye from HOST`.
"""

import socket
import struct
import sys

import mdns


def addresses(packet):
    """Returns the addresses in a packet's A and AAAA records."""

    def after_name(i):
        while packet[i]:
            if packet[i] >= 0xC0:
                return i + 2
            i += packet[i] + 1
        return i + 1

    questions, *records = struct.unpack(">HHHH", packet[4:12])
    i, found = 12, []
    for _ in range(questions):
        i = after_name(i) + 4
    for _ in range(sum(records)):
        i = after_name(i)
        record_type, _, _, length = struct.unpack(">HHIH", packet[i : i + 10])
        data = packet[i + 10 : i + 10 + length]
        i += 10 + length
        if record_type == mdns.TYPE_A:
            found.append(socket.inet_ntoa(data))
        if record_type == mdns.TYPE_AAAA:
            found.append(socket.inet_ntop(socket.AF_INET6, data))
    return found


where = sys.argv[1] if len(sys.argv) > 1 else "0.0.0.0"
group = mdns.join_group(where) if "." in where else mdns.join_group_ipv6(where)
print("ready", flush=True)
while True:
    packet, (host, *_) = group.recvfrom(9000)
    if b"_irohv1" not in packet.lower():
        continue
    kind = "response" if mdns.is_response(packet) else "query"
    # A goodbye has one record, the PTR record, with a TTL of zero.
    if kind == "response" and struct.unpack(">H", packet[6:8])[0] == 1:
        kind = "goodbye"
    print(kind, "from", host, *addresses(packet), flush=True)
