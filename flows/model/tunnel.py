"""Ways of copies: what tunnels and links add to a frame, and which keys tunnels have.

Header sizes: RFC 7348 (VXLAN), RFC 2784 and 2890 (GRE with a key), RFC 8926 (Geneve without
options), draft-foschiano-erspan-03 (ERSPAN II and III, whose GRE header has a sequence number);
each was measured on Open vSwitch 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable

from netaddr import IPAddress

from flows.errors import NoKeyLeft
from flows.model.session import KEYS, TAGGED_BYTES, Collector, Delivery, Session

ETHERNET_HEADER = 14
IP_HEADER = {4: 20, 6: 40}
HEADERS = {
    Delivery.VXLAN: 16,
    Delivery.GRE: 8,
    Delivery.ERSPAN2: 16,
    Delivery.ERSPAN3: 20,
    Delivery.GENEVE: 16,
}
"""Bytes between the outer IP header and the copied frame (UDP included)."""

KEY_WORDS = {
    Delivery.VXLAN: "vni",
    Delivery.GRE: "key",
    Delivery.ERSPAN2: "session_id",
    Delivery.ERSPAN3: "session_id",
    Delivery.GENEVE: "vni",
}
"""What people call the key of each kind of tunnel."""

CHOSEN_FROM = {
    Delivery.VXLAN: 0x800000,
    Delivery.GRE: 0x80000000,
    Delivery.ERSPAN2: 1,
    Delivery.ERSPAN3: 1,
    Delivery.GENEVE: 0x800000,
}
"""The first key that is chosen for collectors which name none; lower ones are for people."""


def key_space(delivery: Delivery) -> Delivery:
    """The kind whose keys a receiver cannot tell from these: both ERSPANs have one space."""
    return Delivery.ERSPAN2 if delivery is Delivery.ERSPAN3 else delivery


def free_key(delivery: Delivery, collectors: Iterable[Collector]) -> int:
    """The lowest key that none of the collectors has, for one that names none.

    Raises:
        NoKeyLeft: they have all of them.
    """
    space = key_space(delivery)
    taken = {c.key for c in collectors if key_space(c.delivery) is space}
    first, last = CHOSEN_FROM[delivery], KEYS[delivery].stop - 1
    for key in range(first, last + 1):
        if key not in taken:
            return key
    raise NoKeyLeft(delivery.value, KEY_WORDS[delivery], first, last)


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


def link_limit(link_mtu: int) -> int:
    """Bytes of the longest original frame whose copy fits a link; it wears one tag there."""
    return ETHERNET_HEADER + link_mtu - TAGGED_BYTES


def cut_length(session: Session, limit: int | None) -> int | None:
    """Bytes after which a copy is cut or left out: the least of its limits; None: none."""
    limits = [length for length in (session.packet_length, limit) if length is not None]
    return min(limits, default=None)
