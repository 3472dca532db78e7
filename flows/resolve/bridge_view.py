"""One bridge in a survey: its own ports, and what lies beyond each of its links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from netaddr import IPAddress

from flows.resolve.world import Survey
from flows.model.session import (
    Collector,
    Dpid,
    NetworkId,
    Ofport,
    Port,
    PortId,
    PortKind,
    Sensor,
    Session,
)
from flows.semantics.tags import transport_key


class Resident(NamedTuple):
    """A workload of a bridge: its OpenFlow port, the number of its network, its MAC address."""

    port: Port
    place: Ofport
    network: int
    mac: int | None


class Site:
    """One bridge in a survey: its own ports, and what lies beyond each of its links."""

    def __init__(self, dpid: Dpid, survey: Survey, *, has_meters: bool = False) -> None:
        self.dpid = dpid
        self.has_meters = has_meters
        self.survey = survey
        self.world = survey.world
        self.first_hops = survey.fabric.first_hops(dpid)
        self.link_ports = survey.fabric.link_ports(dpid)
        self._ways: dict[PortId, Ofport | None] = {}

    @cached_property
    def workloads(self) -> tuple[Port, ...]:
        """The workloads on this bridge."""
        here = self.world.ports_by_dpid.get(self.dpid, ())
        return tuple(p for p in here if p.kind is PortKind.VM)

    @cached_property
    def residents(self) -> tuple[Resident, ...]:
        """The same, with what their flows are made of."""
        numbers, places = self.world.numbers.network, self.world.placements
        found: list[Resident] = []
        for port in self.workloads:
            assert port.network is not None, "a workload is in a network"
            mac = None if port.mac is None else int(port.mac)
            found.append(Resident(port, places[port.id].ofport, numbers[port.network], mac))
        return tuple(found)

    @cached_property
    def tap_ports(self) -> tuple[Port, ...]:
        """The tap ports on this bridge."""
        here = self.world.ports_by_dpid.get(self.dpid, ())
        return tuple(p for p in here if p.kind is PortKind.TAP)

    @cached_property
    def members(self) -> Mapping[NetworkId, tuple[Port, ...]]:
        """The members of each network that has to do with this bridge, wherever they are.

        A network has to do with it when a member is here, or when two members can reach each
        other only through here. Members that cannot be reached are left out.
        """
        found: dict[NetworkId, tuple[Port, ...]] = {}
        known = self.world.members_by_network
        here = {port.network for port in self.workloads}
        # without a link nobody's packets pass but those of networks that are here
        for network in known if self.link_ports else (n for n in known if n in here):
            ports = known[network]
            reached = tuple(p for p in ports if self.way(p) is not None)
            ways = {self.way(p) for p in reached if not self.is_here(p)}
            if len(ways) > 1 or (len(reached) > 0 and any(self.is_here(p) for p in reached)):
                found[network] = reached
        return found

    def is_here(self, port: Port) -> bool:
        """Whether a port is on this bridge now."""
        placement = self.world.placements.get(port.id)
        return placement is not None and placement.dpid == self.dpid

    def is_joined(self, port: Port) -> bool:
        """Whether links lead from this bridge to that of a placed port."""
        return self.survey.is_joined(self.dpid, self.survey.place(port))

    def way(self, port: Port) -> Ofport | None:
        """The OpenFlow port that leads to ``port``, its own or a link's; None when none does."""
        if port.id in self._ways:
            return self._ways[port.id]
        placement, way = self.world.placements.get(port.id), None
        if placement is not None and placement.dpid == self.dpid:
            way = placement.ofport
        elif placement is not None and self.tag_towards(port):
            way = self.first_hops.get(placement.dpid)
        self._ways[port.id] = way
        return way

    def way_to(self, sensor: Sensor, collector: Collector) -> Ofport | None:
        """The OpenFlow port that leads copies to a sensor; None when none does."""
        if isinstance(sensor, IPAddress):
            return self.world.tunnels.get((self.dpid, collector.delivery))
        tap = self.world.port_by_id.get(sensor)
        return None if tap is None else self.way(tap)

    def limit_of(self, session: Session) -> int | None:
        """Bytes of the longest frame that this bridge can copy whole for a session; None: any."""
        return self.survey.limit_at(self.dpid, session)

    def tag_towards(self, port: Port) -> int | None:
        """The link tag that the packets of the port's network, or copies for a tap port, wear."""
        key = f"tap:{port.id}" if port.network is None else f"network:{port.network}"
        return self.world.numbers.tag.get(key)

    def link_tag_of_copies(self, tap: Port, tag: int | None) -> int | None:
        """The link tag of copies that shall wear ``tag`` at a tap port of another bridge."""
        return self.world.numbers.tag.get(transport_key(tap.id, tag))

    def tag_of_sender(self, port: Port) -> int | None:
        """The link tag that says "sent by a protected port of this network", or "by this port"."""
        key = f"network:{port.network}" if port.is_protected else f"port:{port.id}"
        return self.world.numbers.tag.get(key)

    def links_with(self, network: NetworkId) -> tuple[Ofport, ...]:
        """The links beyond which the network has members, ascending."""
        return tuple(sorted({self.ofport(p) for p in self.members[network] if not self.is_here(p)}))

    def remote_senders(self) -> Iterator[tuple[Ofport, Port]]:
        """Every workload of another bridge whose packets may arrive, with the link they come by."""
        for ports in self.members.values():
            for port in ports:
                if not self.is_here(port):
                    yield self.ofport(port), port

    def ofport(self, port: Port) -> Ofport:
        """The OpenFlow port that leads to a port of which it is known that it can be reached."""
        way = self.way(port)
        assert way is not None, f"port {port.id} cannot be reached from {self.dpid:016x}"
        return way

    def number(self, port_id: PortId) -> int:
        """The number of a port in the registers."""
        return self.world.numbers.port[port_id]
