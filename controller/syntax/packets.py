"""Packets as text, like `tcp,destination=10.0.0.2,destination_port=80`, built into frames."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping

from netaddr import EUI, AddrFormatError, IPAddress

from controller.syntax.digits import is_number
from controller.syntax.filters import ARP_OPERATIONS, ETH_TYPES, PROTOCOLS, TCP_FLAG_NAMES
from flows.errors import InvalidValue
from flows.model import Port, parse_mac
from flows.openflow import (
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ETH_VLAN,
    IPV4_HEADER,
    VLAN_ID_MASK,
)

PACKET_KINDS = ("tcp", "udp", "sctp", "icmp", "icmpv6", "arp")
"""The kinds that a packet may begin with; others are given by `protocol` or `eth_type`."""

PACKET_KEYS = (
    *("source_mac", "destination_mac", "vlan", "eth_type"),
    *("source", "destination", "protocol", "source_port", "destination_port"),
    *("icmp_type", "icmp_code", "tcp_flags", "arp_operation"),
)

_NUMBER = re.compile(r"[0-9]{1,20}|0[xX][0-9A-Fa-f]{1,16}")
_EPHEMERAL, _WELL_KNOWN = 49152, {"tcp": 80, "udp": 53, "sctp": 80}
_ECHO = {"icmp": 8, "icmpv6": 128}
_LIMITED_BROADCAST = IPAddress("255.255.255.255")
_BROADCAST_MAC = EUI("ff:ff:ff:ff:ff:ff")


PACKET_DIGITS_MAX = 20
"""Most digits of a number in a packet; Python refuses to read one of thousands."""


class BadPacket(InvalidValue):
    """A packet cannot be built; the message names the key that is wrong or missing."""

    where = "packet"


def build_frame(text: str, sender: Port, neighbours: Iterable[Port]) -> bytes:
    """The Ethernet frame (without FCS) that ``sender`` would send.

    Addresses that the text leaves out are those of the sender. The MAC address of the destination
    is that of the port among ``neighbours``, the ports of its network, that has the IP address.

    Raises:
        BadPacket: a key is unknown or out of place, or a needed one is missing.
    """
    kind, given = _split(text)
    fields = _Fields(given)
    if kind == "arp" or given.get("eth_type") in ("arp", "0x0806"):
        eth_type, body, target = _arp(fields, sender)
    elif kind is not None or "protocol" in given or "source" in given or "destination" in given:
        eth_type, body, target = _ip(kind, fields, sender)
    else:
        eth_type, body, target = fields.number("eth_type", 0xFFFF, names=ETH_TYPES), b"", None
    head = _link(fields, sender, target, neighbours)
    fields.check_all_taken()
    return head + struct.pack("!H", eth_type) + body


class _Fields:
    """The given fields of a packet. Each is taken once; those left at the end are out of place."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = dict(given)

    def take(self, key: str) -> str | None:
        return self._given.pop(key, None)

    def number(
        self,
        key: str,
        most: int,
        default: int | None = None,
        names: Mapping[str, int] | None = None,
    ) -> int:
        text = self.take(key)
        if text is None and default is not None:
            return default
        if text is None:
            raise BadPacket(
                f"the packet needs {key}=...: see {', '.join(PACKET_KINDS)} for short forms"
            )
        if names and text in names:
            return names[text]
        try:
            value = int(text, 0) if _NUMBER.fullmatch(text) else -1
        except ValueError:  # like 080
            value = -1
        if not 0 <= value <= most:
            raise BadPacket(f"{key}={text}: it is not a number from 0 to {most}")
        return value

    def mac(self, key: str, default: Callable[[], EUI]) -> bytes:
        text = self.take(key)
        mac = default() if text is None else parse_mac(text)
        if mac is None:
            raise BadPacket(f"{key}={text}: write a MAC address like 02:00:00:00:00:01")
        return int(mac).to_bytes(6, "big")

    def address(self, key: str) -> IPAddress | None:
        text = self.take(key)
        if text is None:
            return None
        try:
            if "." in text and text.count(".") != 3:
                raise ValueError
            return IPAddress(text)
        except (AddrFormatError, ValueError):
            raise BadPacket(f"{key}={text}: it is not an IP address") from None

    def check_all_taken(self) -> None:
        if self._given:
            raise BadPacket(f"{', '.join(self._given)} has no place in this kind of packet")


def _split(text: str) -> tuple[str | None, dict[str, str]]:
    kind: str | None = None
    given: dict[str, str] = {}
    for index, part in enumerate(part.strip() for part in text.split(",")):
        key, equals, value = part.partition("=")
        if not equals and index == 0 and part in PACKET_KINDS:
            kind = part
        elif not equals or key not in PACKET_KEYS or not value:
            raise BadPacket(
                f"{part!r} is not understood: begin with one of {', '.join(PACKET_KINDS)}, then "
                f"KEY=VALUE with the keys {', '.join(PACKET_KEYS)}"
            )
        elif key in given:
            raise BadPacket(f"{key} is given twice")
        else:
            given[key] = value
    return kind, given


def _link(
    fields: _Fields, sender: Port, target: IPAddress | None, neighbours: Iterable[Port]
) -> bytes:
    """The addresses and the 802.1Q tag of the Ethernet header."""

    def own() -> EUI:
        if sender.mac is None:
            raise BadPacket(f"port {sender.name!r} has no declared MAC address: give source_mac=")
        return sender.mac

    head = fields.mac("destination_mac", lambda: _mac_of(target, neighbours))
    head += fields.mac("source_mac", own)
    vlan = fields.take("vlan")
    if vlan is None:
        return head
    is_short = is_number(vlan) and len(vlan) <= PACKET_DIGITS_MAX
    if not is_short or int(vlan) > VLAN_ID_MASK:
        raise BadPacket(f"vlan={vlan}: it is not a number from 0 to {VLAN_ID_MASK}")
    return head + struct.pack("!HH", ETH_VLAN, int(vlan))


def _mac_of(target: IPAddress | None, neighbours: Iterable[Port]) -> EUI:
    """The destination MAC of a packet for an IP address; broadcast if there is none."""
    if target is None or target == _LIMITED_BROADCAST:
        return _BROADCAST_MAC
    if target.is_multicast():
        low = int(target) & (0x7FFFFF if target.version == 4 else 0xFFFFFFFF)
        return EUI((0x01005E000000 if target.version == 4 else 0x333300000000) | low)
    for port in neighbours:
        if target in port.ips and port.mac is not None:
            return port.mac
    raise BadPacket(
        f"no port of the network is declared with {target} and a MAC address: give "
        "destination_mac= (of that port, or of the router)"
    )


def _arp(fields: _Fields, sender: Port) -> tuple[int, bytes, IPAddress | None]:
    fields.take("eth_type")
    operation = fields.number("arp_operation", 0xFFFF, 1, ARP_OPERATIONS)
    source = fields.address("source") or _own(sender, 4)
    target = fields.address("destination")
    if target is None or target.version != 4 or source.version != 4:
        raise BadPacket("an ARP packet needs destination=, the IPv4 address that is asked for")
    mac = int(sender.mac or 0).to_bytes(6, "big")
    body = struct.pack("!HHBBH", 1, ETH_IPV4, 6, 4, operation) + mac + source.packed
    receiver = target if operation == 2 else None  # requests are broadcast
    return ETH_ARP, body + bytes(6) + target.packed, receiver


def _ip(kind: str | None, fields: _Fields, sender: Port) -> tuple[int, bytes, IPAddress]:
    eth_type = fields.take("eth_type")
    target, source = fields.address("destination"), fields.address("source")
    if target is None:
        raise BadPacket("say where the packet goes: destination=ADDRESS")
    source = source or _own(sender, target.version)
    is_other = eth_type not in (None, "ipv4" if target.version == 4 else "ipv6")
    if source.version != target.version or is_other:
        raise BadPacket("source, destination and eth_type are of different IP versions")
    if kind is None:
        protocol, body = fields.number("protocol", 255, names=PROTOCOLS), b""
        kind = next((name for name in PACKET_KINDS if PROTOCOLS.get(name) == protocol), None)
    if kind is not None:
        protocol, body = PROTOCOLS[kind], _transport(kind, fields)
    if target.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
        return ETH_IPV6, head + source.packed + target.packed + body, target
    head = struct.pack("!BBHHHBBH", 0x45, 0, IPV4_HEADER + len(body), 0, 0, 64, protocol, 0)
    head += source.packed + target.packed
    return ETH_IPV4, head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body, target


def _transport(kind: str, fields: _Fields) -> bytes:
    """The transport header. Its checksum is 0, as no flow matches it."""
    if kind in _ECHO:
        number = fields.number("icmp_type", 255, _ECHO[kind])
        return struct.pack("!BBHI", number, fields.number("icmp_code", 255, 0), 0, 1)
    ports = struct.pack(
        "!HH",
        fields.number("source_port", 0xFFFF, _EPHEMERAL),
        fields.number("destination_port", 0xFFFF, _WELL_KNOWN[kind]),
    )
    if kind == "udp":
        return ports + struct.pack("!HH", 8, 0)
    if kind == "sctp":
        return ports + bytes(8)
    return ports + struct.pack("!IIHHHH", 1, 0, 5 << 12 | _flags(fields), 1024, 0, 0)


def _flags(fields: _Fields) -> int:
    bits = 0
    for name in (fields.take("tcp_flags") or "syn").split("+"):
        if name not in TCP_FLAG_NAMES:
            known = ", ".join(TCP_FLAG_NAMES)
            raise BadPacket(f"tcp_flags: {name!r} is no flag: write syn+ack; flags: {known}")
        bits |= 1 << TCP_FLAG_NAMES.index(name)
    return bits


def _own(sender: Port, version: int) -> IPAddress:
    for address in sender.ips:
        if address.version == version:
            return address
    raise BadPacket(f"port {sender.name!r} has no declared IPv{version} address: give source=")


def _checksum(head: bytes) -> int:
    total: int = sum(word for (word,) in struct.iter_unpack("!H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
