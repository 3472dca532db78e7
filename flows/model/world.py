"""The world at one moment: inventory, sessions, placements, links, and numbers on switches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from netaddr import IPAddress

from flows.errors import InvalidValue
from flows.model.attachment import Attachment
from flows.model.collector import Collector, Delivery, Sensor
from flows.model.datapath import Datapath, Segmenter
from flows.model.filter import Filter
from flows.model.hop import NOTHING_KNOWN, STOPS_ARRIVALS, STOPS_COPIES, Hop, Route, Setting
from flows.model.names import (
    OFPORT_MAX,
    CollectorId,
    Dpid,
    FilterId,
    NetworkId,
    Ofport,
    PortId,
    SessionId,
    TenantName,
)
from flows.model.numbers import Numbers
from flows.model.port import Network, Port, PortKind
from flows.model.rate import Rate
from flows.model.session import Session
from flows.model.tunnel_kind import OVER_IPV6, TunnelKind, tunnel_kind
from flows.openflow import VLAN_HEADER

UNDERLAY_MTU = 1500
"""MTU of the network between hosts, in bytes, unless configured."""
LINK_MTU = 1508
"""MTU of links between bridges, in bytes, unless configured: 1500 of a workload, its own tag, and
the link tag."""


NO_OWNER = Dpid(0)
"""The datapath id that no bridge has."""


@dataclass(frozen=True, slots=True, order=True)
class Placement:
    """Where a port, or the end of a link, is now: a bridge and its OpenFlow port number.

    A workload on a bridge of somebody else is at the tap bridge that gets copies from there:
    ``owner`` is then the datapath id of the owner's bridge, and the number is one of that.

    Raises:
        InvalidValue: the datapath id or the port number is outside its range.
    """

    dpid: Dpid
    ofport: Ofport
    owner: Dpid = NO_OWNER

    def __post_init__(self) -> None:
        if not 0 <= self.dpid < 1 << 64:
            raise InvalidValue(f"datapath id {self.dpid} is not a 64-bit number")
        if not 1 <= self.ofport <= OFPORT_MAX:
            raise InvalidValue(f"OpenFlow port number {self.ofport} is outside 1..{OFPORT_MAX}")


@dataclass(frozen=True, slots=True)
class Link:
    """A cable between two bridges that we own; frames on it have a link tag (802.1Q)."""

    a: Placement
    b: Placement

    def __post_init__(self) -> None:
        if self.a.dpid == self.b.dpid:
            raise InvalidValue(f"a link joins bridge {self.a.dpid:016x} to itself")


class CopyWay(NamedTuple):
    """Copies that cross a bridge to a tap port, with the tag that they wear there, and whose they
    are: each tenant that has had a tap port has link tags of its own."""

    tap: PortId
    tag: int | None
    tenant: TenantName


NO_WAYS: Mapping[Dpid, frozenset[CopyWay]] = {}
Down = Sensor | Placement | tuple[CollectorId, Sensor]
"""What is down: a tap port or the end of a link between bridges, by the state of its port, or a
sensor by the probe of one collector."""


@dataclass(frozen=True, eq=False)
class World:
    """One snapshot of everything that decides which flows each bridge should have.

    ``tunnels`` are the tunnel ports of bridges by kind; ``down`` are sensors that are known not
    to receive, and ends of links that carry nothing. ``underlay_mtu`` and ``link_mtu`` are the MTUs
    of the network between hosts and of links between bridges, in bytes. ``bridge_rate`` caps all
    copies of each bridge together. ``hops`` is what is known of ports, ``routes`` of the ways from
    bridges to remote sensors. ``datapaths`` are those of the bridges that a database reports; the
    datapath of any other bridge is not known. ``segmenters`` are those of bridges with the
    kernel's datapath: without a usable one (``segmenter_at``) such a bridge truncates nothing.
    ``attachments`` are the bridges of others by the tap bridge beside each. ``fading`` are sessions
    that have ended while a bridge could not be told: until it is told it sends their copies to
    others. ``untold`` are the numbers of sessions that bridges may be making copies of which cannot
    be told now. ``known_ways`` are the ways of copies that bridges have which are away; others may
    have any way by the time it is used.

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
    tunnels: Mapping[tuple[Dpid, TunnelKind], Ofport] = field(default_factory=dict)
    down: frozenset[Down] = frozenset()
    underlay_mtu: int = UNDERLAY_MTU
    bridge_rate: Rate | None = None
    link_mtu: int = LINK_MTU
    hops: Mapping[Placement, Hop] = field(default_factory=dict)
    routes: Mapping[tuple[Dpid, IPAddress], Route] = field(default_factory=dict)
    datapaths: Mapping[Dpid, Datapath] = field(default_factory=dict)
    segmenters: Mapping[Dpid, Segmenter] = field(default_factory=dict)
    attachments: Mapping[Dpid, Attachment] = field(default_factory=dict)
    contests: Mapping[PortId, tuple[Placement, ...]] = field(default_factory=dict)
    fading: frozenset[SessionId] = frozenset()
    untold: frozenset[int] = frozenset()
    known_ways: Mapping[Dpid, frozenset[CopyWay]] = field(default_factory=dict)

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

    def with_desired_state(
        self,
        collectors: tuple[Collector, ...],
        session_by_id: Mapping[SessionId, Session],
        filters: tuple[Filter, ...],
        numbers: Numbers,
        fading: frozenset[SessionId] = frozenset(),
        untold: frozenset[int] = frozenset(),
        known_ways: Mapping[Dpid, frozenset[CopyWay]] = NO_WAYS,
    ) -> World:
        """The same inventory and placements with other sessions, filters and collectors.

        Ids are not checked: they must be unique. ``numbers`` may differ for sessions, filters,
        collectors and meters only.
        """
        sessions = tuple(session_by_id.values())
        desired: dict[str, object] = {"collectors": collectors, "filters": filters}
        desired |= {"sessions": sessions, "session_by_id": session_by_id, "numbers": numbers}
        desired |= {"fading": fading, "untold": untold, "known_ways": known_ways}
        return self._other({"collector_by_id", "filter_by_id"}, desired)

    def with_placements(
        self,
        placements: Mapping[PortId, Placement],
        links: tuple[Link, ...],
        numbers: Numbers,
        contests: Mapping[PortId, tuple[Placement, ...]] | None = None,
    ) -> World:
        """The same networks and ports, already checked, with other placements and links."""
        stale = {
            "members_by_network", "ports_by_dpid", "port_by_placement", "dpids",
            "longest_by_network", "link_mtu_now", "claims_by_dpid", "broken_links",
        }  # fmt: skip
        changed = {"placements": placements, "links": links, "numbers": numbers}
        return self._other(stale, {**changed, "contests": contests or {}})

    def with_reachability(
        self,
        tunnels: Mapping[tuple[Dpid, TunnelKind], Ofport],
        down: frozenset[Down],
        hops: Mapping[Placement, Hop],
        routes: Mapping[tuple[Dpid, IPAddress], Route],
        datapaths: Mapping[Dpid, Datapath],
        segmenters: Mapping[Dpid, Segmenter],
    ) -> World:
        """The same world with another state of what carries copies; see the fields."""
        stale = {"broken_links"}
        if hops is not self.hops:
            stale |= {"longest_by_network", "link_mtu_now"}
        changed = {"tunnels": tunnels, "down": down, "hops": hops, "routes": routes}
        return self._other(stale, {**changed, "datapaths": datapaths, "segmenters": segmenters})

    def segmenter_at(self, here: Dpid) -> Segmenter | None:
        """The segmenting pair to which a bridge may send copies; None if it has no usable one."""
        pair = self.segmenters.get(here)
        return pair if pair is not None and pair.state.is_usable else None

    def with_attachments(self, attachments: Mapping[Dpid, Attachment]) -> World:
        """The same world with other Mirrors, or ports, on the bridges of others."""
        return self._other(set(), {"attachments": attachments})

    def is_down(self, collector: Collector, sensor: Sensor) -> bool:
        """Whether a sensor of a collector is known not to receive, wherever copies come from."""
        return self.is_dead(collector, sensor) or self.is_stopped(sensor)

    def is_dead(self, collector: Collector, sensor: Sensor) -> bool:
        """Whether the link of a sensor is down, or its probe fails."""
        return sensor in self.down or (collector.id, sensor) in self.down

    def is_stopped(self, sensor: Sensor) -> bool:
        """Whether a sensor is a tap port that sends nothing out: its link is down, or a setting."""
        if isinstance(sensor, IPAddress):
            return False
        hop = self.hop_of(sensor)
        return sensor in self.down or (
            hop is not None and not STOPS_COPIES.isdisjoint(hop.settings)
        )

    def is_cut_off(self, here: Dpid, delivery: Delivery, sensor: Sensor) -> bool:
        """Whether copies that a bridge makes cannot reach a remote sensor: there is no route, or
        its tunnel port sends nothing.
        """
        if not isinstance(sensor, IPAddress):
            return False
        route = self.routes.get((here, sensor))
        hop = self.tunnel_hop(here, delivery, sensor)
        is_shut = hop is not None and not STOPS_COPIES.isdisjoint(hop.settings)
        return is_shut or (route is not None and route.is_broken)

    def tunnel_kind(self, here: Dpid, delivery: Delivery, address: IPAddress) -> TunnelKind:
        """The kind of port by which a bridge sends copies to a remote sensor.

        While no database reports a bridge, the ports that it has tell which kind that is.
        """
        over_ipv6 = OVER_IPV6.get(delivery) if address.version == 6 else None
        if over_ipv6 is not None and here not in self.datapaths:
            has_one = (here, over_ipv6) in self.tunnels
            return over_ipv6 if has_one else TunnelKind(delivery.value)
        return tunnel_kind(delivery, address, self.datapaths.get(here))

    def tunnel_to(self, here: Dpid, delivery: Delivery, address: IPAddress) -> Ofport | None:
        """The tunnel port by which a bridge sends copies to a remote sensor; None: it has none."""
        return self.tunnels.get((here, self.tunnel_kind(here, delivery, address)))

    def has_tunnel(self, here: Dpid, collector: Collector) -> bool:
        """Whether a bridge has a tunnel port to a remote sensor of a collector."""
        delivery = collector.delivery
        return any(self.tunnel_to(here, delivery, a) is not None for a in collector.addresses)

    def tunnel_hop(self, here: Dpid, delivery: Delivery, address: IPAddress) -> Hop | None:
        """What is known of the tunnel port of a bridge to a remote sensor; None: it has none."""
        number = self.tunnel_to(here, delivery, address)
        return None if number is None else self.hops.get(Placement(here, number))

    @cached_property
    def broken_links(self) -> frozenset[Placement]:
        """The ends of links by which a bridge sends what never arrives at the other end."""
        both = [pair for link in self.links for pair in ((link.a, link.b), (link.b, link.a))]
        return frozenset(out for out, into in both if self._is_broken(out, into))

    def _is_broken(self, out: Placement, into: Placement) -> bool:
        if not self.down.isdisjoint((out, into)):
            return True
        sends, takes = (self.hops.get(end, NOTHING_KNOWN).settings for end in (out, into))
        return not (STOPS_COPIES.isdisjoint(sends) and STOPS_ARRIVALS.isdisjoint(takes))

    def is_protected(self, port: PortId) -> bool:
        """Whether a port is one of those to which its bridge sends nothing from each other."""
        hop = self.hop_of(port)
        return hop is not None and Setting.PROTECTED in hop.settings

    def hop_of(self, port: PortId) -> Hop | None:
        """What is known of a port at its place; None if it has none, or nothing is known."""
        place = self.placements.get(port)
        return None if place is None else self.hops.get(place)

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
    def longest_by_network(self) -> Mapping[NetworkId, int | None]:
        """The MTU of the longest packets in each network, in bytes; None if not bounded or known.

        Networks without placed workloads are left out.
        """
        found: dict[NetworkId, int | None] = {}
        for port in self.workloads:
            if port.network is None or port.id not in self.placements:
                continue
            hop = self.hop_of(port.id)
            longest = None if hop is None else hop.longest
            known = found.get(port.network, 0)
            is_bounded = known is not None and longest is not None
            found[port.network] = max(known or 0, longest or 0) if is_bounded else None
        return found

    @cached_property
    def link_mtu_now(self) -> int:
        """The MTU of links: the declared one, unless a device of a link is known to have less.

        Linux sends a frame with an 802.1Q tag, as all on links are, beyond the MTU by this tag.
        """
        hops = (self.hops.get(end) for link in self.links for end in (link.a, link.b))
        known = [hop.mtu + VLAN_HEADER for hop in hops if hop is not None and hop.mtu is not None]
        return min((self.link_mtu, *known))

    @cached_property
    def ports_by_dpid(self) -> Mapping[Dpid, tuple[Port, ...]]:
        """The placed ports of each bridge, in the order of the inventory."""
        found: dict[Dpid, list[Port]] = {}
        for port in self.ports:
            if port.id in self.placements:
                found.setdefault(self.placements[port.id].dpid, []).append(port)
        return {dpid: tuple(ports) for dpid, ports in found.items()}

    @cached_property
    def claims_by_dpid(self) -> Mapping[Dpid, tuple[tuple[Port, Ofport], ...]]:
        """The workloads that a bridge claims to have, and that are elsewhere, with their place.

        A claim on a bridge of somebody else is none of its tap bridge: there the number is that of
        another port.
        """
        found: dict[Dpid, list[tuple[Port, Ofport]]] = {}
        ends = {end for link in self.links for end in (link.a, link.b)}
        for port in self.workloads if self.contests else ():
            for place in self.contests.get(port.id, ()):
                is_used = place in self.port_by_placement or place in ends
                if place.owner == NO_OWNER and not is_used:
                    found.setdefault(place.dpid, []).append((port, place.ofport))
        return {dpid: tuple(claims) for dpid, claims in found.items()}

    @cached_property
    def port_by_placement(self) -> Mapping[Placement, Port]:
        """The port at each placement."""
        return {self.placements[p.id]: p for p in self.ports if p.id in self.placements}

    @cached_property
    def dpids(self) -> tuple[Dpid, ...]:
        """Every bridge that has a port or a link, ascending."""
        seen = {p.dpid for p in self.placements.values()}
        seen |= {end.dpid for link in self.links for end in (link.a, link.b)}
        return tuple(sorted(seen))

    def _other(self, stale: set[str], fields: Mapping[str, object]) -> World:
        """This world with other fields, without the cached properties that are stale."""
        world = object.__new__(World)
        world.__dict__.update({k: v for k, v in self.__dict__.items() if k not in stale})
        world.__dict__.update(fields)
        return world


def _check_unique(what: str, keys: Iterable[object]) -> None:
    seen: set[object] = set()
    for key in keys:
        if key in seen:
            raise InvalidValue(f"{what} {key!r} is declared twice")
        seen.add(key)
