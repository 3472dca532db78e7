"""Reads the header fields of a frame as Open vSwitch extracts them.

It parses one VLAN header (``vlan-limit=1``, the default); the fields of a malformed or truncated
header are 0. Ports are read as in the fragment mode nx-match: the first fragment of a packet has
them like a whole packet; in later ones they are 0. Source: lib/flow.c of Open vSwitch 3.1,
miniflow_extract.
"""

from __future__ import annotations

from flows.errors import InvalidValue
from flows.openflow.field import (
    ARP_OP,
    ARP_SHA,
    ARP_SPA,
    ARP_THA,
    ARP_TPA,
    ETH_DST,
    ETH_SRC,
    ETH_TYPE,
    FRAGMENT,
    ICMP_CODE,
    ICMP_TYPE,
    ICMPV6_CODE,
    ICMPV6_TYPE,
    IP_DST,
    IP_FRAG,
    IP_PROTO,
    IP_SRC,
    IPV6_DST,
    IPV6_SRC,
    LATER_FRAGMENT,
    ND_TARGET,
    SCTP_DST,
    SCTP_SRC,
    TCP_DST,
    TCP_FLAGS,
    TCP_SRC,
    UDP_DST,
    UDP_SRC,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_VID,
    Field,
)
from flows.openflow.protocol import (
    ETH_ARP,
    ETH_HEADER,
    ETH_IPV4,
    ETH_IPV6,
    ETH_QINQ,
    ETH_TYPE_MIN,
    ETH_VLAN,
    IPV4_HEADER,
    IPV6_HEADER,
    ND_ADVERTISEMENT,
    ND_SOLICITATION,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    VLAN_HEADER,
    VLAN_ID_MASK,
)

ARP_BODY = 28
ETH_TYPE_NONE = 0x05FF
"""What Open vSwitch reports for a frame without EtherType (OFP_DL_TYPE_NOT_ETH_TYPE)."""
SNAP = bytes((0xAA, 0xAA, 3, 0, 0, 0))
"""LLC and SNAP header, which the EtherType follows (RFC 1042)."""
GROUP_BIT = 1 << 40
"""The bit of a MAC address that marks a group (multicast or broadcast) address."""
ICMP_HEADER, ND_HEADER = 8, 24
PORT_FIELDS = {
    PROTO_TCP: (TCP_SRC, TCP_DST),
    PROTO_UDP: (UDP_SRC, UDP_DST),
    PROTO_SCTP: (SCTP_SRC, SCTP_DST),
}
"""The source and destination port field of each protocol that has ports."""
Fields = dict[Field, int]
"""The values of header fields; what a frame lacks is absent."""

_PORTS_HEADER = {PROTO_TCP: 20, PROTO_UDP: 8, PROTO_SCTP: 12}
"""Bytes of the shortest header of each protocol that has ports."""
_EXTENSIONS = {0: 8, 43: 8, 60: 8, 51: 4}
"""IPv6 extension headers, and the unit of their length in bytes (RFC 8200; 51 is AH, RFC 4302)."""
_FRAGMENT = 44


def read_fields(frame: bytes) -> Fields:
    """Every field of ``frame`` that one of our flows may match.

    Raises:
        InvalidValue: the frame is shorter than an Ethernet header.
    """
    if len(frame) < ETH_HEADER:
        raise InvalidValue(f"{len(frame)} bytes are no Ethernet frame")
    fields: Fields = {ETH_DST: _int(frame, 0, 6), ETH_SRC: _int(frame, 6, 6)}
    fields[VLAN_VID] = 0
    if _is_tagged(frame):
        tci = _int(frame, 14, 2)
        fields[VLAN_VID], fields[VLAN_PCP] = VLAN_PRESENT | tci & VLAN_ID_MASK, tci >> 13
    eth_type, at = _ethernet(frame)
    fields[ETH_TYPE] = eth_type if eth_type >= ETH_TYPE_MIN else ETH_TYPE_NONE
    body = frame[at:]
    if eth_type == ETH_IPV4:
        fields |= _ipv4(body)
    elif eth_type == ETH_IPV6:
        fields |= _ipv6(body)
    elif eth_type == ETH_ARP:
        fields |= _arp(body)
    return fields


def length_without_padding(frame: bytes) -> int:
    """Bytes of ``frame`` up to the end of its IP packet: its length for Open vSwitch.

    For a frame that is not IP, or whose IP header is malformed, every byte counts.
    """
    eth_type, at = _ethernet(frame)
    body = frame[at:]
    if eth_type == ETH_IPV4 and _is_ipv4(body):
        return at + _int(body, 2, 2)
    if eth_type == ETH_IPV6 and _is_ipv6(body):
        return at + IPV6_HEADER + _int(body, 4, 2)
    return len(frame)


def is_group(mac: int) -> bool:
    """Whether a MAC address is broadcast or multicast."""
    return bool(mac & GROUP_BIT)


def _int(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _is_tagged(frame: bytes) -> bool:
    return _int(frame, 12, 2) in (ETH_VLAN, ETH_QINQ) and len(frame) >= ETH_HEADER + VLAN_HEADER


def _ethernet(frame: bytes) -> tuple[int, int]:
    """The EtherType of what a frame holds, and where that begins."""
    at = ETH_HEADER + VLAN_HEADER if _is_tagged(frame) else ETH_HEADER
    eth_type = _int(frame, at - 2, 2)
    if eth_type < ETH_TYPE_MIN and frame[at : at + 6] == SNAP:
        return _int(frame, at + 6, 2), at + 8
    return eth_type, at


def _is_ipv4(body: bytes) -> bool:
    """Whether the lengths in an IPv4 header fit the packet."""
    if len(body) < IPV4_HEADER:
        return False
    return IPV4_HEADER <= (body[0] & 0xF) * 4 <= _int(body, 2, 2) <= len(body)


def _is_ipv6(body: bytes) -> bool:
    return len(body) >= IPV6_HEADER and _int(body, 4, 2) <= len(body) - IPV6_HEADER


def _arp(body: bytes) -> Fields:
    fields: Fields = dict.fromkeys((ARP_OP, ARP_SPA, ARP_TPA, ARP_SHA, ARP_THA), 0)
    if len(body) >= ARP_BODY and body[:6] == bytes((0, 1, 8, 0, 6, 4)):
        op = _int(body, 6, 2)
        fields |= {
            ARP_OP: op if op <= 0xFF else 0,
            ARP_SHA: _int(body, 8, 6),
            ARP_SPA: _int(body, 14, 4),
            ARP_THA: _int(body, 18, 6),
            ARP_TPA: _int(body, 24, 4),
        }
    return fields


def _ipv4(body: bytes) -> Fields:
    fields: Fields = dict.fromkeys((IP_PROTO, IP_SRC, IP_DST, IP_FRAG), 0)
    if not _is_ipv4(body):
        return fields
    header, total = (body[0] & 0xF) * 4, _int(body, 2, 2)
    fields = {IP_PROTO: body[9], IP_SRC: _int(body, 12, 4), IP_DST: _int(body, 16, 4)}
    fields[IP_FRAG] = _fragment(_int(body, 6, 2), 0x2000, 0x1FFF)
    is_later = bool(fields[IP_FRAG] & LATER_FRAGMENT)
    return fields | _transport(body[9], b"" if is_later else body[header:total], PROTO_ICMP)


def _ipv6(body: bytes) -> Fields:
    fields: Fields = dict.fromkeys((IP_PROTO, IPV6_SRC, IPV6_DST, IP_FRAG), 0)
    if not _is_ipv6(body):
        return fields
    fields |= {IPV6_SRC: _int(body, 8, 16), IPV6_DST: _int(body, 24, 16)}
    proto, rest = body[6], body[IPV6_HEADER : IPV6_HEADER + _int(body, 4, 2)]
    while proto in _EXTENSIONS or proto == _FRAGMENT:
        if len(rest) < 8:
            return fields
        if proto == _FRAGMENT:
            fields[IP_FRAG] = _fragment(_int(rest, 2, 2), 0x0007, 0xFFF8)
            if fields[IP_FRAG] & LATER_FRAGMENT:  # its protocol is unknown
                return fields | {IP_PROTO: _FRAGMENT}
            proto, rest = rest[0], rest[8:]
            continue
        size = (rest[1] + 2) * 4 if _EXTENSIONS[proto] == 4 else (rest[1] + 1) * 8
        if size > len(rest):
            return fields
        proto, rest = rest[0], rest[size:]
    return fields | {IP_PROTO: proto} | _transport(proto, rest, PROTO_ICMPV6)


def _fragment(bits: int, more: int, offset: int) -> int:
    """The value of ``ip_frag`` for the 16 bits of a header with these masks of its parts."""
    return (FRAGMENT if bits & (more | offset) else 0) | (LATER_FRAGMENT if bits & offset else 0)


def _transport(proto: int, data: bytes, icmp: int) -> Fields:
    """The fields of a transport header; ``icmp`` is the ICMP of this version of IP."""
    if proto in PORT_FIELDS:
        (source, destination), least = PORT_FIELDS[proto], _PORTS_HEADER[proto]
        is_whole = len(data) >= least
        if proto == PROTO_TCP and is_whole:
            is_whole = least <= (data[12] >> 4) * 4 <= len(data)
        whole = data if is_whole else bytes(least)
        fields = {source: _int(whole, 0, 2), destination: _int(whole, 2, 2)}
        return fields | ({TCP_FLAGS: _int(whole, 12, 2) & 0xFFF} if proto == PROTO_TCP else {})
    if proto != icmp:
        return {}
    head = data[:2] if len(data) >= ICMP_HEADER else bytes(2)
    if proto == PROTO_ICMP:
        return {ICMP_TYPE: head[0], ICMP_CODE: head[1]}
    is_nd = (
        len(data) >= ND_HEADER and data[0] in (ND_SOLICITATION, ND_ADVERTISEMENT) and data[1] == 0
    )
    target = _int(data, 8, 16) if is_nd else 0
    return {ICMPV6_TYPE: head[0], ICMPV6_CODE: head[1], ND_TARGET: target}
