"""Frames for tests, built by hand from their fields; every one may carry a payload of its own."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

BROADCAST = 0xFFFFFFFFFFFF


def mac_bytes(mac: int) -> bytes:
    """Six bytes of a MAC address."""
    return mac.to_bytes(6, "big")


def ethernet(
    dst: int, src: int, eth_type: int, body: bytes, tags: tuple[tuple[int, int], ...] = ()
) -> bytes:
    """A frame; ``tags`` are (TPID, TCI) pairs, the outer one first."""
    shim = b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags)
    return mac_bytes(dst) + mac_bytes(src) + shim + struct.pack("!H", eth_type) + body


def arp(op: int, sha: int, spa: str, tha: int, tpa: str) -> bytes:
    """The body of an ARP packet (RFC 826)."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op)
    return (
        head + mac_bytes(sha) + IPv4Address(spa).packed + mac_bytes(tha) + IPv4Address(tpa).packed
    )


def ipv4(src: str, dst: str, proto: int, body: bytes, fragment: int = 0, ident: int = 0) -> bytes:
    """An IPv4 packet without options; ``fragment`` holds flags and offset as on the wire."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident, fragment, 64, proto, 0)
    head += IPv4Address(src).packed + IPv4Address(dst).packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def ipv6(src: str, dst: str, proto: int, body: bytes) -> bytes:
    """An IPv6 packet; ``proto`` is its first next header."""
    head = struct.pack("!IHBB", 6 << 28, len(body), proto, 64)
    return head + IPv6Address(src).packed + IPv6Address(dst).packed + body


def udp(sport: int, dport: int, data: bytes) -> bytes:
    """A UDP datagram without checksum."""
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def tcp(sport: int, dport: int, flags: int, data: bytes) -> bytes:
    """A TCP segment with checksum 0."""
    return struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 0x50, flags, 1024, 0, 0) + data


def icmpv6_nd(kind: int, target: str, data: bytes = b"") -> bytes:
    """A neighbour solicitation (135) or advertisement (136) with checksum 0."""
    return struct.pack("!BBHI", kind, 0, 0, 0) + IPv6Address(target).packed + data


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pad(frame: bytes, size: int = 60) -> bytes:
    """At least the shortest frame that a cable carries."""
    return frame.ljust(size, b"\0")
