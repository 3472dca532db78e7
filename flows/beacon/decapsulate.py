"""Takes 802.1Q tags and one tunnel header off a copy, down to the frame that was copied.

Sources: RFC 7348 (VXLAN), RFC 8926 (Geneve), RFC 2784 and 2890 (GRE), and for ERSPAN the draft
draft-foschiano-erspan-03.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from struct import error, unpack_from

from flows.openflow import (
    ETH_BRIDGED,
    ETH_ERSPAN2,
    ETH_ERSPAN3,
    ETH_HEADER,
    ETH_IPV4,
    ETH_IPV6,
    ETH_QINQ,
    ETH_VLAN,
    IPV6_HEADER,
    PROTO_GRE,
    PROTO_UDP,
    UDP_GENEVE,
    UDP_VXLAN,
    VLAN_HEADER,
    VLAN_ID_MASK,
)

_CHECKSUM, _KEY, _SEQUENCE = 0x8000, 0x2000, 0x1000
"""Flags of a GRE header: which optional fields follow it."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The outer header of a tunnel: ``kind`` is the name of a delivery, or ``erspan1``.

    ``key`` is the VNI, the GRE key or the ERSPAN session id; None where there is none.
    """

    kind: str
    source: str
    destination: str
    key: int | None = None

    def __str__(self) -> str:
        key = "" if self.key is None else f", key {self.key}"
        return f"{self.kind} from {self.source} to {self.destination}{key}"


@dataclass(frozen=True, slots=True)
class Decapsulated:
    """A frame without tags and tunnel; ``tags`` are the 802.1Q ids of it, the outermost first."""

    frame: bytes
    tags: tuple[int, ...] = ()
    tunnel: Tunnel | None = None


def decapsulate(frame: bytes) -> Decapsulated:
    """Take off one tunnel header of a kind that copies use, and every tag of the frame inside.

    Without a tunnel header only the tags go. Fragments of a tunnelled packet are left as they are.
    """
    tags, bare = _untag(frame)
    try:
        carried = _carried(bare)
    except (error, IndexError):
        carried = None
    if carried is None:
        return Decapsulated(bare, tags)
    tunnel, inner = carried
    inner_tags, bare = _untag(inner)
    return Decapsulated(bare, inner_tags, tunnel)


def _untag(frame: bytes) -> tuple[tuple[int, ...], bytes]:
    tags: list[int] = []
    while len(frame) >= ETH_HEADER + VLAN_HEADER and int.from_bytes(frame[12:14], "big") in (
        ETH_VLAN,
        ETH_QINQ,
    ):
        tags.append(int.from_bytes(frame[14:16], "big") & VLAN_ID_MASK)
        frame = frame[:12] + frame[16:]
    return tuple(tags), frame


def _carried(frame: bytes) -> tuple[Tunnel, bytes] | None:
    """The tunnel header of an untagged frame, and the frame inside; None without a tunnel."""
    (kind,) = unpack_from("!H", frame, 12)
    if kind == ETH_IPV4:
        at, protocol = ETH_HEADER + (frame[14] & 15) * 4, frame[23]
        is_fragment = bool(unpack_from("!H", frame, 20)[0] & 0x3FFF)
        source, destination = frame[26:30], frame[30:34]
    elif kind == ETH_IPV6:
        at, protocol, is_fragment = ETH_HEADER + IPV6_HEADER, frame[20], False
        source, destination = frame[22:38], frame[38:54]
    else:
        return None
    if is_fragment:
        return None
    found = None
    if protocol == PROTO_UDP:
        found = _in_udp(frame, at)
    elif protocol == PROTO_GRE:
        found = _in_gre(frame, at)
    if found is None:
        return None
    name, key, start = found
    ends = str(ip_address(source)), str(ip_address(destination))
    return Tunnel(name, *ends, key), frame[start:]


def _in_udp(frame: bytes, at: int) -> tuple[str, int | None, int] | None:
    """Kind, key, and offset of the inner frame; None when the datagram is no tunnel's."""
    _, port = unpack_from("!HH", frame, at)
    flags, key = frame[at + 8], int.from_bytes(frame[at + 12 : at + 15], "big")
    if port == UDP_VXLAN and flags & 0x08:
        return "vxlan", key, at + 16
    if port == UDP_GENEVE and unpack_from("!H", frame, at + 10)[0] == ETH_BRIDGED:
        return "geneve", key, at + 16 + (flags & 0x3F) * 4
    return None


def _in_gre(frame: bytes, at: int) -> tuple[str, int | None, int] | None:
    """Kind, key, and offset of the inner frame; None when GRE carries something else."""
    flags, kind = unpack_from("!HH", frame, at)
    at += 4 + 4 * bool(flags & _CHECKSUM)
    key: int | None = None
    if flags & _KEY:
        (key,) = unpack_from("!I", frame, at)
        at += 4
    at += 4 * bool(flags & _SEQUENCE)
    if kind == ETH_BRIDGED:
        return "gre", key, at
    if kind == ETH_ERSPAN2 and not flags & _SEQUENCE:
        return "erspan1", None, at
    if kind == ETH_ERSPAN2:
        return "erspan2", unpack_from("!H", frame, at + 2)[0] & 0x3FF, at + 8
    if kind == ETH_ERSPAN3:
        has_more = frame[at + 11] & 1
        return "erspan3", unpack_from("!H", frame, at + 2)[0] & 0x3FF, at + 12 + 8 * has_more
    return None
