"""What a copy came in: tags and tunnel headers are taken off until the frame itself is there.

Sources: RFC 7348 (VXLAN), RFC 8926 (Geneve), RFC 2784 and 2890 (GRE), and for ERSPAN the draft
draft-foschiano-erspan-03.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from struct import error, unpack_from

VXLAN_PORT, GENEVE_PORT = 4789, 6081
_TAGS = (0x8100, 0x88A8)
_IPV4, _IPV6, _UDP, _GRE = 0x0800, 0x86DD, 17, 47
_ETHERNET_IN_GRE, _ERSPAN_2, _ERSPAN_3 = 0x6558, 0x88BE, 0x22EB
_CHECKSUM, _KEY, _SEQUENCE = 0x8000, 0x2000, 0x1000


@dataclass(frozen=True, slots=True)
class Tunnel:
    """An outer header: ``kind`` as collectors name deliveries, addresses, and the key in it.

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
class Opened:
    """A frame without its tags and tunnel; ``tags`` are 802.1Q ids, the outermost first."""

    frame: bytes
    tags: tuple[int, ...] = ()
    tunnel: Tunnel | None = None


def open_envelope(frame: bytes) -> Opened:
    """Take one tunnel off, if there is one that copies use, and every tag of what was in it.

    Fragments of a tunnelled packet are left as they are.
    """
    tags, bare = _untag(frame)
    try:
        carried = _carried(bare)
    except (error, IndexError):
        carried = None
    if carried is None:
        return Opened(bare, tags)
    tunnel, inner = carried
    inner_tags, bare = _untag(inner)
    return Opened(bare, inner_tags, tunnel)


def _untag(frame: bytes) -> tuple[tuple[int, ...], bytes]:
    tags: list[int] = []
    while len(frame) >= 18 and int.from_bytes(frame[12:14], "big") in _TAGS:
        tags.append(int.from_bytes(frame[14:16], "big") & 0xFFF)
        frame = frame[:12] + frame[16:]
    return tuple(tags), frame


def _carried(frame: bytes) -> tuple[Tunnel, bytes] | None:
    """The tunnel header that an untagged frame has, and the frame in it."""
    (kind,) = unpack_from("!H", frame, 12)
    if kind == _IPV4:
        at, protocol = 14 + (frame[14] & 15) * 4, frame[23]
        is_fragment = bool(unpack_from("!H", frame, 20)[0] & 0x3FFF)
        source, destination = frame[26:30], frame[30:34]
    elif kind == _IPV6:
        at, protocol, is_fragment = 54, frame[20], False
        source, destination = frame[22:38], frame[38:54]
    else:
        return None
    if is_fragment:
        return None
    found = None
    if protocol == _UDP:
        found = _in_udp(frame, at)
    elif protocol == _GRE:
        found = _in_gre(frame, at)
    if found is None:
        return None
    name, key, start = found
    ends = str(ip_address(source)), str(ip_address(destination))
    return Tunnel(name, *ends, key), frame[start:]


def _in_udp(frame: bytes, at: int) -> tuple[str, int | None, int] | None:
    """Kind, key, and where the inner frame begins."""
    _, port = unpack_from("!HH", frame, at)
    flags, key = frame[at + 8], int.from_bytes(frame[at + 12 : at + 15], "big")
    if port == VXLAN_PORT and flags & 0x08:
        return "vxlan", key, at + 16
    if port == GENEVE_PORT and unpack_from("!H", frame, at + 10)[0] == _ETHERNET_IN_GRE:
        return "geneve", key, at + 16 + (flags & 0x3F) * 4
    return None


def _in_gre(frame: bytes, at: int) -> tuple[str, int | None, int] | None:
    flags, kind = unpack_from("!HH", frame, at)
    at += 4 + 4 * bool(flags & _CHECKSUM)
    key: int | None = None
    if flags & _KEY:
        (key,) = unpack_from("!I", frame, at)
        at += 4
    at += 4 * bool(flags & _SEQUENCE)
    if kind == _ETHERNET_IN_GRE:
        return "gre", key, at
    if kind == _ERSPAN_2 and not flags & _SEQUENCE:
        return "erspan1", None, at
    if kind == _ERSPAN_2:
        return "erspan2", unpack_from("!H", frame, at + 2)[0] & 0x3FF, at + 8
    if kind == _ERSPAN_3:
        has_more = frame[at + 11] & 1
        return "erspan3", unpack_from("!H", frame, at + 2)[0] & 0x3FF, at + 12 + 8 * has_more
    return None
