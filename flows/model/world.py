"""The world at one moment: what is declared, where it runs, and its numbers on switches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from flows.openflow.cookie import OBJECT_MAX
from flows.errors import InvalidValue
from flows.model.filter import Filter
from flows.model.session import (
    OFPORT_MAX,
    Collector,
    CollectorId,
    Delivery,
    Dpid,
    FilterId,
    Network,
    NetworkId,
    Ofport,
    Port,
    PortId,
    PortKind,
    Rate,
    Sensor,
    Session,
    SessionId,
)


@dataclass(frozen=True, slots=True, order=True)
class Placement:
    """Where a port, or the end of a link, is now: a bridge and its OpenFlow port number."""

    dpid: Dpid
    ofport: Ofport

    def __post_init__(self) -> None:
        if not 0 <= self.dpid < 1 << 64:
            raise InvalidValue(f"datapath id {self.dpid} is not a 64-bit number")
        if not 1 <= self.ofport <= OFPORT_MAX:
            raise InvalidValue(f"OpenFlow port number {self.ofport} is outside 1..{OFPORT_MAX}")


@dataclass(frozen=True, slots=True)
class Link:
    """A cable between two bridges that we own; it carries one 802.1Q tag of ours."""

    a: Placement
    b: Placement

    def __post_init__(self) -> None:
        if self.a.dpid == self.b.dpid:
            raise InvalidValue(f"a link joins bridge {self.a.dpid:016x} to itself")


Down = Sensor | tuple[CollectorId, Sensor]
"""A sensor that does not receive: for every collector, or as one collector's probe says."""

METERS = range(40_000, 65_000)
"""Meters of sessions on a bridge; low numbers are left to others that use the same switch."""
LONG_METERS = range(1 << 21, 1 << 22)
"""Meters that drop nothing and count the copies that are too long for their path: two for each
session number, since flows cannot tell. Open vSwitch 3.1 counts for a flow all packets of a cached
path, long ones and short ones."""
NUMBER_RANGES = {
    **dict.fromkeys(("network", "port", "filter", "collector"), range(1, 1 << 20)),
    "session": range(1, OBJECT_MAX),
    "tag": range(1, 4095),
    "meter": METERS,
}
UNDERLAY_MTU = 1500
"""Bytes of the longest IP packet that hosts send, if nobody says otherwise."""
LINK_MTU = 1508
"""Bytes that links carry behind the Ethernet header, if nobody says otherwise: 1500 of a workload,
a tag of its own, and ours."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The small numbers that stand for names in registers, cookies and link tags.

    They are kept across restarts, so that a restarted controller compiles the same flows.
    ``network``, ``port``, ``session``, ``filter``, ``collector`` numbers are 1..2^20-1; ``tag``
    values are VLAN ids 1..4094, keyed by ``network:<id>``, ``port:<id>`` (unprotected workload) or
    ``tap:<id>``; ``meter`` numbers are in METERS, for sessions with a rate cap. A collector needs
    a number when it has several sensors.

    Raises:
        InvalidValue: a number is outside its range: it would not fit where flows hold it.
    """

    network: Mapping[NetworkId, int] = field(default_factory=dict)
    port: Mapping[PortId, int] = field(default_factory=dict)
    session: Mapping[SessionId, int] = field(default_factory=dict)
    tag: Mapping[str, int] = field(default_factory=dict)
    filter: Mapping[FilterId, int] = field(default_factory=dict)
    collector: Mapping[CollectorId, int] = field(default_factory=dict)
    meter: Mapping[SessionId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, allowed in NUMBER_RANGES.items():
            given = getattr(self, what).values()
            if given and not (min(given) >= allowed.start and max(given) < allowed.stop):
                wrong = next(number for number in given if number not in allowed)
                limits = f"{allowed.start}..{allowed.stop - 1}"
                raise InvalidValue(f"{wrong} is no number of a {what}: they are {limits}")


def tag_keys(networks: Iterable[Network], ports: Iterable[Port]) -> list[str]:
    """The names that need a link tag once bridges are linked, in a stable order."""
    keys = [f"network:{n.id}" for n in networks]
    keys += [f"port:{p.id}" for p in ports if p.kind is PortKind.VM and not p.is_protected]
    return keys + [f"tap:{p.id}" for p in ports if p.kind is PortKind.TAP]


@dataclass(frozen=True, eq=False)
class World:
    """One snapshot of everything that decides which flows each bridge should have.

    ``tunnels`` are the ports of bridges that send to remote sensors; ``down`` are sensors that
    are known not to receive; ``underlay_mtu`` is what the hosts' own network carries, in bytes, and
    ``link_mtu`` what links between bridges carry; ``bridge_rate`` caps all copies of each bridge
    together.

    Raises:
        InvalidValue: when ids, or MAC addresses inside a network, are not unique, or when a
            name is used that is not declared.
    """

    networks: tuple[Network, ...] = ()
    ports: tuple[Port, ...] = ()
    collectors: tuple[Collector, ...] = ()
    sessions: tuple[Session, ...] = ()
    placements: Mapping[PortId, Placement] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    numbers: Numbers = field(default_factory=Numbers)
    filters: tuple[Filter, ...] = ()
    tunnels: Mapping[tuple[Dpid, Delivery], Ofport] = field(default_factory=dict)
    down: frozenset[Down] = frozenset()
    underlay_mtu: int = UNDERLAY_MTU
    bridge_rate: Rate | None = None
    link_mtu: int = LINK_MTU

    def __post_init__(self) -> None:
        _check_unique("network", (n.id for n in self.networks))
        _check_unique("port", (p.id for p in self.ports))
        _check_unique("collector", (c.id for c in self.collectors))
        _check_unique("session", (s.id for s in self.sessions))
        _check_unique("filter", (f.id for f in self.filters))
        for port in self.ports:
            if port.network is not None and port.network not in self.network_by_id:
                raise InvalidValue(f"port {port.name!r} is in network {port.network!r}, unknown")
        _check_unique(
            "MAC address in its network",
            ((p.network, int(p.mac)) for p in self.workloads if p.mac is not None),
        )

    def with_wishes(
        self,
        collectors: tuple[Collector, ...],
        session_by_id: Mapping[SessionId, Session],
        filters: tuple[Filter, ...],
        numbers: Numbers,
    ) -> World:
        """The same estate with other wishes; what is known of the estate is not worked out again.

        Their ids are not checked: they must be unique, and ``numbers`` may have other numbers for
        sessions, filters, collectors and meters only.
        """
        sessions = tuple(session_by_id.values())
        wishes: dict[str, object] = {"collectors": collectors, "filters": filters}
        wishes |= {"sessions": sessions, "session_by_id": session_by_id, "numbers": numbers}
        return self._other({"collector_by_id", "filter_by_id"}, wishes)

    def with_places(
        self,
        placements: Mapping[PortId, Placement],
        links: tuple[Link, ...],
        numbers: Numbers,
    ) -> World:
        """The same networks and ports at other places; they were checked already."""
        of_places = {"members_by_network", "ports_by_dpid", "port_by_placement", "dpids"}
        places = {"placements": placements, "links": links, "numbers": numbers}
        return self._other(of_places, places)

    def _other(self, forgotten: set[str], fields: Mapping[str, object]) -> World:
        world = object.__new__(World)
        world.__dict__.update({k: v for k, v in self.__dict__.items() if k not in forgotten})
        world.__dict__.update(fields)
        return world

    def with_reach(
        self, tunnels: Mapping[tuple[Dpid, Delivery], Ofport], down: frozenset[Down]
    ) -> World:
        """The same world, whose remote sensors are reached otherwise, and other sensors are down.

        What is known of the rest is not worked out again.
        """
        world = object.__new__(World)
        world.__dict__.update(self.__dict__, tunnels=tunnels, down=down)
        return world

    def is_down(self, collector: Collector, sensor: Sensor) -> bool:
        """Whether a sensor of a collector is known not to receive."""
        return sensor in self.down or (collector.id, sensor) in self.down

    @cached_property
    def network_by_id(self) -> Mapping[NetworkId, Network]:
        """Every network by its id."""
        return {n.id: n for n in self.networks}

    @cached_property
    def port_by_id(self) -> Mapping[PortId, Port]:
        """Every port, workload or tap port, by its id."""
        return {p.id: p for p in self.ports}

    @cached_property
    def session_by_id(self) -> Mapping[SessionId, Session]:
        """Every session by its id."""
        return {s.id: s for s in self.sessions}

    @cached_property
    def collector_by_id(self) -> Mapping[CollectorId, Collector]:
        """Every collector by its id."""
        return {c.id: c for c in self.collectors}

    @cached_property
    def filter_by_id(self) -> Mapping[FilterId, Filter]:
        """Every filter but the built-in one by its id."""
        return {f.id: f for f in self.filters}

    @cached_property
    def workloads(self) -> tuple[Port, ...]:
        """The ports that carry production."""
        return tuple(p for p in self.ports if p.kind is PortKind.VM)

    @cached_property
    def tap_ports(self) -> tuple[Port, ...]:
        """The ports that receive copies."""
        return tuple(p for p in self.ports if p.kind is PortKind.TAP)

    @cached_property
    def members_by_network(self) -> Mapping[NetworkId, tuple[Port, ...]]:
        """The placed workloads of each network."""
        members: dict[NetworkId, list[Port]] = {n.id: [] for n in self.networks}
        for port in self.workloads:
            if port.network is not None and port.id in self.placements:
                members[port.network].append(port)
        return {network: tuple(ports) for network, ports in members.items()}

    @cached_property
    def ports_by_dpid(self) -> Mapping[Dpid, tuple[Port, ...]]:
        """The placed ports of each bridge, in the order of the inventory."""
        found: dict[Dpid, list[Port]] = {}
        for port in self.ports:
            if port.id in self.placements:
                found.setdefault(self.placements[port.id].dpid, []).append(port)
        return {dpid: tuple(ports) for dpid, ports in found.items()}

    @cached_property
    def port_by_placement(self) -> Mapping[Placement, Port]:
        """Which port is at a place."""
        return {self.placements[p.id]: p for p in self.ports if p.id in self.placements}

    @cached_property
    def dpids(self) -> tuple[Dpid, ...]:
        """Every bridge that has a port or a link, ascending."""
        seen = {p.dpid for p in self.placements.values()}
        seen |= {end.dpid for link in self.links for end in (link.a, link.b)}
        return tuple(sorted(seen))


def _check_unique(what: str, keys: Iterable[object]) -> None:
    seen: set[object] = set()
    for key in keys:
        if key in seen:
            raise InvalidValue(f"{what} {key!r} is declared twice")
        seen.add(key)
