"""Ethernet frames as bytes: builds them for the traffic and names their kind for the table."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

BROADCAST = "ff:ff:ff:ff:ff:ff"
EXPERIMENT = 0x88B5
"""EtherType for local experiments (IEEE 802)."""
IPV4, ARP, VLAN, PROVIDER_VLAN = 0x0800, 0x0806, 0x8100, 0x88A8
FULL_FRAME = 1514
"""Bytes of the longest frame on a network with an MTU of 1500."""

_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP"}


def ethernet(to: str, sender: str, kind: int, payload: bytes) -> bytes:
    """A frame of at least 60 bytes, so that no device pads it."""
    header = bytes.fromhex(to.replace(":", "") + sender.replace(":", "")) + struct.pack("!H", kind)
    return (header + payload).ljust(60, b"\0")


def tagged(vlan: int, kind: int, payload: bytes) -> bytes:
    """What follows the EtherType 0x8100 (or 0x88a8): a VLAN tag, then ``payload`` of ``kind``."""
    return struct.pack("!HH", vlan, kind) + payload


def udp(sender: str, to: str, payload: bytes) -> bytes:
    """An IPv4 packet with one UDP datagram, to port 9 (discard)."""
    ends = IPv4Address(sender).packed + IPv4Address(to).packed
    length = 8 + len(payload)
    datagram = struct.pack("!HHHH", 40000, 9, length, 0) + payload
    check = _checksum(ends + struct.pack("!HH", 17, length) + datagram) or 0xFFFF
    datagram = datagram[:6] + struct.pack("!H", check) + datagram[8:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 17, 0) + ends
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + datagram


def arp_request(mac: str, sender: str, to: str, trailer: bytes) -> bytes:
    """An ARP request for ``to``; ``trailer`` follows it in place of the padding."""
    own = bytes.fromhex(mac.replace(":", "")) + IPv4Address(sender).packed
    asked = bytes(6) + IPv4Address(to).packed
    return struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + own + asked + trailer


def sender_of(frame: bytes) -> str:
    """The source MAC address."""
    return frame[6:12].hex(":")


def destination_of(frame: bytes) -> str:
    """The destination MAC address."""
    return frame[0:6].hex(":")


def is_group(mac: str) -> bool:
    """Whether a MAC address is a group address: broadcast or multicast."""
    return bool(int(mac[:2], 16) & 1)


def describe(frame: bytes) -> str:
    """One line: addresses, kind, length, and the text that the payload carries."""
    text = "".join(chr(byte) for byte in frame[14:] if 32 <= byte < 127)
    start = text.find("story:")
    words = f' "{text[start:]}"' if start >= 0 else f" {frame[14:54].hex()}..."
    route = f"{sender_of(frame)} > {destination_of(frame)}"
    return f"{kind_of(frame)} {route}, {len(frame)} bytes{words}"


def kind_of(frame: bytes) -> str:
    """The protocol in one word, for frames whose kind the traffic did not name."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == IPV4 and len(frame) > 23:
        return _PROTOCOLS.get(frame[23], f"IP protocol {frame[23]}")
    if kind in (VLAN, PROVIDER_VLAN):
        return "VLAN-tagged"
    return "ARP" if kind == ARP else f"EtherType 0x{kind:04x}"


def _checksum(data: bytes) -> int:
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
