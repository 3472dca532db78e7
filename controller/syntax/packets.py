"""Packets as people write them, like `tcp,destination=10.0.0.2,destination_port=80`, as frames."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping

from netaddr import EUI, AddrFormatError, IPAddress

from controller.syntax.filters import ARP_OPERATIONS, ETH_TYPES, PROTOCOLS, TCP_FLAGS
from flows.errors import InvalidValue
from flows.model.session import Port

KINDS = ("tcp", "udp", "sctp", "icmp", "icmpv6", "arp")
"""The words that a packet may begin with; other packets name `protocol` or `eth_type`."""

KEYS = (
    *("source_mac", "destination_mac", "vlan", "eth_type"),
    *("source", "destination", "protocol", "source_port", "destination_port"),
    *("icmp_type", "icmp_code", "tcp_flags", "arp_operation"),
)

_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_EPHEMERAL, _WELL_KNOWN = 49152, {"tcp": 80, "udp": 53, "sctp": 80}
_ECHO = {"icmp": 8, "icmpv6": 128}
_LIMITED_BROADCAST = IPAddress("255.255.255.255")
_BROADCAST_MAC = EUI("ff:ff:ff:ff:ff:ff")


class BadPacket(InvalidValue):
    """A packet that cannot be built; the message says which part is wrong or missing."""

    where = "packet"


def build_frame(text: str, sender: Port, neighbours: Iterable[Port]) -> bytes:
    """The Ethernet frame (without FCS) that ``sender`` would send.

    What the text leaves out comes from the sender: its MAC and IP address. The MAC address of the
    destination comes from the ``neighbours``, the ports of its network.

    Raises:
        BadPacket: a key is not known, or what is needed is missing.
    """
    kind, given = _split(text)
    words = _Words(given)
    if kind == "arp" or given.get("eth_type") in ("arp", "0x0806"):
        eth_type, body, target = _arp(words, sender)
    elif kind is not None or "protocol" in given or "source" in given or "destination" in given:
        eth_type, body, target = _ip(kind, words, sender)
    else:
        eth_type, body, target = words.number("eth_type", 0xFFFF, names=ETH_TYPES), b"", None
    head = _link(words, sender, target, neighbours)
    words.refuse_rest()
    return head + struct.pack("!H", eth_type) + body


class _Words:
    """The keys of a packet; each is taken once, and what is left was not understood."""

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
            raise BadPacket(f"the packet needs {key}=...: see {', '.join(KINDS)} for short forms")
        if names and text in names:
            return names[text]
        try:
            value = int(text, 0)
        except ValueError:
            value = -1
        if not 0 <= value <= most:
            raise BadPacket(f"{key}={text}: it is not a number from 0 to {most}")
        return value

    def mac(self, key: str, default: Callable[[], EUI]) -> bytes:
        text = self.take(key)
        if text is not None and not _MAC.fullmatch(text):
            raise BadPacket(f"{key}={text}: write a MAC address like 02:00:00:00:00:01")
        return int(default() if text is None else EUI(text)).to_bytes(6, "big")

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

    def refuse_rest(self) -> None:
        if self._given:
            raise BadPacket(f"{', '.join(self._given)} has no place in this kind of packet")


def _split(text: str) -> tuple[str | None, dict[str, str]]:
    kind: str | None = None
    given: dict[str, str] = {}
    for index, part in enumerate(part.strip() for part in text.split(",")):
        key, equals, value = part.partition("=")
        if not equals and index == 0 and part in KINDS:
            kind = part
        elif not equals or key not in KEYS or not value:
            raise BadPacket(
                f"{part!r} is not understood: begin with one of {', '.join(KINDS)}, then "
                f"KEY=VALUE with the keys {', '.join(KEYS)}"
            )
        elif key in given:
            raise BadPacket(f"{key} is given twice")
        else:
            given[key] = value
    return kind, given


def _link(
    words: _Words, sender: Port, target: IPAddress | None, neighbours: Iterable[Port]
) -> bytes:
    """Addresses and tag of the Ethernet header."""

    def own() -> EUI:
        if sender.mac is None:
            raise BadPacket(f"port {sender.name!r} has no declared MAC address: give source_mac=")
        return sender.mac

    head = words.mac("destination_mac", lambda: _mac_of(target, neighbours))
    head += words.mac("source_mac", own)
    vlan = words.take("vlan")
    if vlan is None:
        return head
    if not vlan.isdecimal() or int(vlan) > 4095:
        raise BadPacket(f"vlan={vlan}: it is not a number from 0 to 4095")
    return head + struct.pack("!HH", 0x8100, int(vlan))


def _mac_of(target: IPAddress | None, neighbours: Iterable[Port]) -> EUI:
    """Where a packet for an IP address is sent; to everybody when there is none."""
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


def _arp(words: _Words, sender: Port) -> tuple[int, bytes, IPAddress | None]:
    words.take("eth_type")
    operation = words.number("arp_operation", 0xFFFF, 1, ARP_OPERATIONS)
    source = words.address("source") or _own(sender, 4)
    target = words.address("destination")
    if target is None or target.version != 4 or source.version != 4:
        raise BadPacket("an ARP packet needs destination=, the IPv4 address that is asked for")
    mac = int(sender.mac or 0).to_bytes(6, "big")
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + mac + source.packed
    everybody = target if operation == 2 else None
    return 0x0806, body + bytes(6) + target.packed, everybody


def _ip(kind: str | None, words: _Words, sender: Port) -> tuple[int, bytes, IPAddress]:
    eth_type = words.take("eth_type")
    target, source = words.address("destination"), words.address("source")
    if target is None:
        raise BadPacket("say where the packet goes: destination=ADDRESS")
    source = source or _own(sender, target.version)
    is_other = eth_type not in (None, "ipv4" if target.version == 4 else "ipv6")
    if source.version != target.version or is_other:
        raise BadPacket("source, destination and eth_type are of different IP versions")
    if kind is None:
        protocol, body = words.number("protocol", 255, names=PROTOCOLS), b""
        kind = next((name for name in KINDS if PROTOCOLS.get(name) == protocol), None)
    if kind is not None:
        protocol, body = PROTOCOLS[kind], _transport(kind, words)
    if target.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
        return 0x86DD, head + source.packed + target.packed + body, target
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    head += source.packed + target.packed
    return 0x0800, head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body, target


def _transport(kind: str, words: _Words) -> bytes:
    """The header behind IP; its own checksum is left 0, as nothing here looks at it."""
    if kind in _ECHO:
        number = words.number("icmp_type", 255, _ECHO[kind])
        return struct.pack("!BBHI", number, words.number("icmp_code", 255, 0), 0, 1)
    ports = struct.pack(
        "!HH",
        words.number("source_port", 0xFFFF, _EPHEMERAL),
        words.number("destination_port", 0xFFFF, _WELL_KNOWN[kind]),
    )
    if kind == "udp":
        return ports + struct.pack("!HH", 8, 0)
    if kind == "sctp":
        return ports + bytes(8)
    return ports + struct.pack("!IIHHHH", 1, 0, 5 << 12 | _flags(words), 1024, 0, 0)


def _flags(words: _Words) -> int:
    bits = 0
    for name in (words.take("tcp_flags") or "syn").split("+"):
        if name not in TCP_FLAGS:
            known = ", ".join(TCP_FLAGS)
            raise BadPacket(f"tcp_flags: {name!r} is no flag: write syn+ack; flags: {known}")
        bits |= 1 << TCP_FLAGS.index(name)
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
