"""Random frames, mostly not quite right: cut off, lengths that lie, headers behind headers."""

from __future__ import annotations

import struct
from random import Random

from tests import frames

MACS = (0x020000000001, 0x0200000000FE, frames.BROADCAST, 0x333300000001)
V4 = ("10.0.0.1", "10.0.0.255", "0.0.0.0", "255.255.255.255")
V6 = ("fd00::1", "fe80::1", "::", "ff02::1")
SNAP = bytes((0xAA, 0xAA, 3, 0, 0, 0))
EXTENSIONS = (0, 43, 44, 51, 60, 135, 139, 140, 59)


def random_frame(rng: Random) -> bytes:
    """At least 14 bytes; half of the frames are then cut or have a byte changed."""
    eth_type, body = rng.choice((_ipv4, _ipv4, _ipv6, _ipv6, _arp, _other))(rng)
    frame = frames.ethernet(rng.choice(MACS), rng.choice(MACS), eth_type, body)
    if rng.random() < 0.1:
        frame = frame[:12] + struct.pack("!H", len(frame) - 14) + SNAP + frame[12:]
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
        tci = rng.choice((0, 5, 0x1005, 0xE00A, 0xFFFF))
        frame = frame[:12] + struct.pack("!HH", rng.choice((0x8100, 0x88A8)), tci) + frame[12:]
    harm = rng.random()
    if harm < 0.25:
        frame = frame[: rng.randint(14, len(frame))]
    elif harm < 0.5:
        at = rng.randrange(12, min(len(frame), 80))
        frame = frame[:at] + bytes([rng.choice((0, 1, 4, 5, 6, 0x45, 0x60, 255))]) + frame[at + 1 :]
    return frames.pad(frame, rng.choice((14, 60)))


def _ipv4(rng: Random) -> tuple[int, bytes]:
    proto, body = _transport(rng, 1)
    fragment = rng.choice((0, 0, 0, 0x4000, 0x2000, 0x2001, 0x0001, 0x1FFF))
    whole = frames.ipv4(rng.choice(V4), rng.choice(V4), proto, body, fragment)
    if rng.random() < 0.3:
        words = rng.randint(6, 15)
        total = len(whole) + 4 * (words - 5)
        options = rng.randbytes(4 * (words - 5))
        whole = bytes([0x40 | words, 0]) + struct.pack("!H", total) + whole[4:20] + options
        whole += body
    return 0x0800, whole


def _ipv6(rng: Random) -> tuple[int, bytes]:
    proto, body = _transport(rng, 58)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        kind = rng.choice(EXTENSIONS)
        body = _extension(rng, kind, proto) + body
        proto = kind
    return 0x86DD, frames.ipv6(rng.choice(V6), rng.choice(V6), proto, body)


def _extension(rng: Random, kind: int, then: int) -> bytes:
    if kind == 44:
        offset = rng.choice((0, 1, 8, 0xFFF8, 0xFFF9))
        return struct.pack("!BBHI", then, rng.choice((0, 255)), offset, 7)
    words = rng.choice((0, 0, 1, 2))
    size = (words + 2) * 4 if kind == 51 else (words + 1) * 8
    return bytes([then, rng.choice((words, words, words, 255))]) + rng.randbytes(size - 2)


def _transport(rng: Random, icmp: int) -> tuple[int, bytes]:
    data = rng.randbytes(rng.choice((0, 3, 8, 20, 60)))
    sport, dport = rng.choice((0, 53, 68, 65535)), rng.choice((0, 67, 80, 65535))
    match rng.choice(("udp", "tcp", "sctp", "icmp", "nd", "odd", "udplite")):
        case "udp":
            return 17, frames.udp(sport, dport, data)
        case "tcp":
            offset_flags = rng.choice((0x5002, 0x5012, 0x5FFF, 0xF001, 0x0002, 0x4000))
            whole = bytearray(frames.tcp(sport, dport, 2, data))
            whole[12:14] = struct.pack("!H", offset_flags)
            return 6, bytes(whole)
        case "sctp":
            return 132, struct.pack("!HHII", sport, dport, 0, 0) + data
        case "icmp":
            return icmp, bytes([rng.choice((0, 8, 128, 135)), rng.choice((0, 1))]) + data
        case "nd":
            whole = bytearray(frames.icmpv6_nd(rng.choice((133, 135, 136)), "fd00::9", data))
            whole[1] = rng.choice((0, 0, 0, 1))
            return rng.choice((58, 58, icmp)), bytes(whole)
        case "udplite":
            return 136, frames.udp(sport, dport, data)
    return rng.choice((2, 4, 41, 47, 50, 59, 255)), data


def _arp(rng: Random) -> tuple[int, bytes]:
    op = rng.choice((0, 1, 2, 255, 256, 65535))
    body = bytearray(frames.arp(op, MACS[0], rng.choice(V4), MACS[1], rng.choice(V4)))
    if rng.random() < 0.3:
        body[rng.randrange(6)] ^= 1
    return 0x0806, bytes(body) + rng.randbytes(rng.choice((0, 18)))


def _other(rng: Random) -> tuple[int, bytes]:
    kind = rng.choice((0, 0x2E, 0x05DC, 0x05FF, 0x0600, 0x0801, 0x88CC, 0x9100, 0x8035, 0xFFFF))
    return kind, rng.randbytes(rng.choice((0, 1, 4, 46)))
