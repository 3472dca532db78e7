"""Kinds of tunnel ports: what a bridge has one port for, in place of one for each sensor.

Where the datapath is the kernel's, ports of the types ``gre`` and ``erspan`` carry IPv4 only, and
IPv6 has types of its own, which carry nothing else. VXLAN and Geneve carry both everywhere, and so
do all kinds in the userspace datapath (measured on Open vSwitch 3.1 with Linux 6.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from netaddr import IPAddress

from flows.model.collector import Collector, Delivery
from flows.model.datapath import Datapath


class TunnelKind(Enum):
    """A kind of tunnel port; the value marks ports of ours in OVSDB."""

    VXLAN = "vxlan"
    """VXLAN."""
    GRE = "gre"
    """GRE; over IPv4 only where the datapath is the kernel's."""
    ERSPAN2 = "erspan2"
    """ERSPAN type II; over IPv4 only where the datapath is the kernel's."""
    ERSPAN3 = "erspan3"
    """ERSPAN type III; over IPv4 only where the datapath is the kernel's."""
    GENEVE = "geneve"
    """Geneve."""
    GRE_OVER_IPV6 = "ip6gre"
    """GRE over IPv6, for the kernel's datapath."""
    ERSPAN2_OVER_IPV6 = "ip6erspan2"
    """ERSPAN type II over IPv6, for the kernel's datapath."""
    ERSPAN3_OVER_IPV6 = "ip6erspan3"
    """ERSPAN type III over IPv6, for the kernel's datapath."""

    @property
    def delivery(self) -> Delivery:
        """The delivery that it is for."""
        return _DELIVERIES.get(self) or Delivery(self.value)

    @property
    def is_over_ipv6(self) -> bool:
        """Whether it carries IPv6 only."""
        return self in _DELIVERIES

    def __str__(self) -> str:
        return f"{self.delivery.value} over IPv6" if self.is_over_ipv6 else self.value


OVER_IPV6: Mapping[Delivery, TunnelKind] = {
    Delivery.GRE: TunnelKind.GRE_OVER_IPV6,
    Delivery.ERSPAN2: TunnelKind.ERSPAN2_OVER_IPV6,
    Delivery.ERSPAN3: TunnelKind.ERSPAN3_OVER_IPV6,
}
"""The deliveries that have a port of their own for IPv6 in the kernel's datapath."""

_DELIVERIES = {kind: delivery for delivery, kind in OVER_IPV6.items()}


def tunnel_kind(delivery: Delivery, address: IPAddress, datapath: Datapath | None) -> TunnelKind:
    """The kind of port by which a bridge sends copies to a sensor.

    A datapath that is not known (None) counts as one whose ports carry both families.
    """
    if datapath is Datapath.KERNEL and address.version == 6 and delivery in OVER_IPV6:
        return OVER_IPV6[delivery]
    return TunnelKind(delivery.value)


def tunnel_kinds(collector: Collector, datapath: Datapath | None) -> frozenset[TunnelKind]:
    """The kinds of ports that a bridge needs for the sensors of a collector; none for tap ports."""
    return frozenset(tunnel_kind(collector.delivery, a, datapath) for a in collector.addresses)
