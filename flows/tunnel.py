"""Tunnels that carry copies to remote sensors: what they add to a frame, and which keys they have.

Header sizes: RFC 7348 (VXLAN), RFC 2784 and 2890 (GRE with a key), RFC 8926 (Geneve without
options), draft-foschiano-erspan-03 (ERSPAN II and III, whose GRE header has a sequence number);
each was measured on Open vSwitch 3.1.
"""

from __future__ import annotations

from netaddr import IPAddress

from flows.model import TAGGED_BYTES, Collector, Delivery, Session

IP_HEADER = {4: 20, 6: 40}
HEADERS = {
    Delivery.VXLAN: 16,
    Delivery.GRE: 8,
    Delivery.ERSPAN2: 16,
    Delivery.ERSPAN3: 20,
    Delivery.GENEVE: 16,
}
"""Bytes between the outer IP header and the copied frame (UDP included)."""


def overhead(delivery: Delivery, address: IPAddress) -> int:
    """Bytes of the outer IP packet that are not the copied frame; 0 for a tap port."""
    if delivery is Delivery.PORT:
        return 0
    return IP_HEADER[address.version] + HEADERS[delivery]


def path_limit(collector: Collector, address: IPAddress, underlay_mtu: int, is_tagged: bool) -> int:
    """Bytes of the longest original frame whose copy fits the path to a remote sensor.

    The smaller counts of what the collector says of its path, and of what the hosts have.
    """
    mtu = min(collector.path_mtu or underlay_mtu, underlay_mtu)
    return mtu - overhead(collector.delivery, address) - TAGGED_BYTES * is_tagged


def cut_length(session: Session, limit: int | None) -> int | None:
    """Bytes after which a copy is cut or left out: the least of its limits; None: none."""
    limits = [length for length in (session.packet_length, limit) if length is not None]
    return min(limits, default=None)
