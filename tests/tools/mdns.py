"""What the mDNS programs of the tests share: the multicast group, and records in DNS's format (RFC 1035)."""

import socket
import struct

ADDRESS, PORT = "224.0.0.251", 5353
SERVICE = "_irohv1._udp.local"
TYPE_A, TYPE_PTR, TYPE_AAAA, TYPE_SRV = 1, 12, 28, 33
CLASS_IN = 1
QUERY, RESPONSE = 0, 0x8400


def join_group(interface_address="0.0.0.0"):
    """Opens a socket that receives what is sent to the group over IPv4."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("0.0.0.0", PORT))
    membership = socket.inet_aton(ADDRESS) + socket.inet_aton(interface_address)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return opened


def join_group_ipv6(interface):
    """Opens a socket that receives what is sent to the group over IPv6 on an interface."""
    opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    opened.bind(("::", PORT))
    index = struct.pack("@I", socket.if_nametoindex(interface))
    membership = socket.inet_pton(socket.AF_INET6, "ff02::fb") + index
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    return opened


def send(opened, packet):
    """Sends a packet to the group over IPv4."""
    opened.sendto(packet, (ADDRESS, PORT))


def header(flags, questions=0, answers=0, additional=0):
    """Returns the header of a packet."""
    return struct.pack(">HHHHHH", 0, flags, questions, answers, 0, additional)


def name(text):
    """Encodes a domain name without compression."""
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def record(owner, record_type, data, ttl=120):
    """Encodes a record."""
    return name(owner) + struct.pack(">HHIH", record_type, CLASS_IN, ttl, len(data)) + data


def question():
    """Returns a packet that asks for iroh endpoints, and for nothing else."""
    return header(QUERY, questions=1) + name(SERVICE) + struct.pack(">HH", TYPE_PTR, CLASS_IN)


def response(key, port, *hosts):
    """Returns a packet which says that the endpoint with this key is at a port of these hosts."""
    target = f"{key}-{port}.local"
    srv = record(f"{key}.{SERVICE}", TYPE_SRV, struct.pack(">HHH", 0, 0, port) + name(target))
    addresses = b"".join(record(target, TYPE_A, socket.inet_aton(host)) for host in hosts)
    return header(RESPONSE, answers=1, additional=len(hosts)) + srv + addresses


def is_response(packet):
    """Tells a response from a query."""
    return bool(packet[2] & 0x80)


def asks_for_iroh(packet):
    """Tells whether a packet is a query about iroh endpoints."""
    return not is_response(packet) and b"_irohv1" in packet
