"""Decapsulates tunnel packets: the kind, the destination, the key, and the inner frame.

Layouts: RFC 7348, RFC 2890, RFC 8926, draft-foschiano-erspan-03; independent of the product.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from flows.model import Delivery

UDP, GRE = 17, 47
UDP_DELIVERIES = {4789: Delivery.VXLAN, 6081: Delivery.GENEVE}
GRE_BRIDGED, GRE_ERSPAN2, GRE_ERSPAN3 = 0x6558, 0x88BE, 0x22EB
ERSPAN_BYTES = {GRE_ERSPAN2: 8, GRE_ERSPAN3: 12}


@dataclass(frozen=True)
class Carried:
    """One frame that a tunnel carried; ``packet_bytes`` is the length of the outer IP packet."""

    delivery: Delivery
    address: str
    key: int
    frame: bytes
    packet_bytes: int


def unwrap(outer: bytes) -> Carried | None:
    """What an outer Ethernet frame carries; None when it is no tunnel of ours."""
    kind, packet = int.from_bytes(outer[12:14], "big"), outer[14:]
    if kind == 0x0800:
        length, protocol = int.from_bytes(packet[2:4], "big"), packet[9]
        assert not int.from_bytes(packet[6:8], "big") & 0x3FFF, "the outer packet is a fragment"
        address, body = str(ip_address(packet[16:20])), packet[20:length]
    elif kind == 0x86DD:
        length, protocol = 40 + int.from_bytes(packet[4:6], "big"), packet[6]
        address, body = str(ip_address(packet[24:40])), packet[40:length]
    else:
        return None
    if protocol == UDP:
        delivery = UDP_DELIVERIES.get(int.from_bytes(body[2:4], "big"))
        if delivery is None:
            return None
        key = int.from_bytes(body[12:15], "big")
        return Carried(delivery, address, key, body[16:], length)
    return _unwrap_gre(address, body, length) if protocol == GRE else None


def _unwrap_gre(address: str, body: bytes, length: int) -> Carried | None:
    flags, protocol = struct.unpack_from("!HH", body)
    if protocol == GRE_BRIDGED:
        assert flags == 0x2000, "GRE with a key and nothing else"
        return Carried(Delivery.GRE, address, int.from_bytes(body[4:8], "big"), body[8:], length)
    if protocol in ERSPAN_BYTES:
        assert flags == 0x1000, "ERSPAN with a sequence number and nothing else"
        delivery = Delivery.ERSPAN2 if protocol == GRE_ERSPAN2 else Delivery.ERSPAN3
        session = int.from_bytes(body[10:12], "big") & 0x3FF
        return Carried(delivery, address, session, body[8 + ERSPAN_BYTES[protocol] :], length)
    return None
