"""Feeds of sensors for tests: one for each delivery, with tags and without."""

from __future__ import annotations

from netaddr import IPAddress

from flows.explain import Feed
from flows.explain.feed import ReceivedNetwork
from flows.model import (
    Collector,
    CollectorId,
    Delivery,
    Network,
    NetworkId,
    PortId,
    Sensor,
    TenantName,
)

RED = TenantName("red")
LAN, DMZ = (Network(NetworkId(name), name, RED) for name in ("lan", "dmz"))
TAGGED = (ReceivedNetwork(LAN, 101, ("web",)), ReceivedNetwork(DMZ, 102, ("web",)))
UNTAGGED = (ReceivedNetwork(LAN, None, ("web",)),)
ADDRESSES = tuple(map(IPAddress, ("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1")))


def make_feed(
    delivery: Delivery, networks: tuple[ReceivedNetwork, ...] = UNTAGGED, **more: object
) -> Feed:
    """What a collector ``ids`` of this delivery gives to its sensor."""
    is_port = delivery is Delivery.PORT
    sensor: Sensor = PortId("ids-1") if is_port else IPAddress("192.0.2.9")
    key = None if is_port else 77
    collector = Collector(CollectorId("ids"), "ids", RED, (sensor,), delivery=delivery, key=key)
    return Feed(collector, (str(sensor),), networks, **{"addresses": ADDRESSES, **more})  # type: ignore[arg-type]


def with_rules_for_each_network(text: str) -> str:
    """A Suricata configuration where the signs before the prepared part were taken away."""
    head, found, tail = text.partition("#multi-detect:")
    assert found, "nothing is prepared"
    return f"{head}multi-detect:" + tail.replace("\n#", "\n")
