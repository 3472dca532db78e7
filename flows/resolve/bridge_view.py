"""One bridge's view of a resolved world: its own ports, and the next hop towards all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from netaddr import IPAddress

from flows.model import (
    NOTHING_KNOWN,
    Collector,
    CopyWay,
    Datapath,
    Dpid,
    Filter,
    FilterId,
    NetworkId,
    Ofport,
    Placement,
    Port,
    PortId,
    PortKind,
    Segmenter,
    Sensor,
    Session,
    transport_key,
)
from flows.resolve.session import is_open
from flows.resolve.world import ResolvedWorld

NO_FILTERS: Mapping[FilterId, Filter] = {}


class LocalWorkload(NamedTuple):
    """A workload on a bridge: its OpenFlow port, the number of its network, its MAC address."""

    port: Port
    ofport: Ofport
    network: int
    mac: int | None


class BridgeView:
    """A resolved world as one bridge sees it; made anew for each compilation.

    ``has_meters``: the bridge supports OpenFlow meters. ``held`` are filters that flows of this
    bridge refer to as they were before, because their new rules are not there yet.
    """

    def __init__(
        self,
        dpid: Dpid,
        resolved: ResolvedWorld,
        *,
        has_meters: bool = False,
        held: Mapping[FilterId, Filter] = NO_FILTERS,
    ) -> None:
        self.dpid = dpid
        self.has_meters = has_meters
        self.resolved = resolved
        self.world = resolved.world
        known = resolved.world.filter_by_id
        self.filter_by_id: Mapping[FilterId, Filter] = {**known, **held} if held else known
        """Every filter but the built-in one, as flows of this bridge should refer to it."""
        self.first_hops = resolved.spanning_tree.first_hops(dpid)
        self.link_ports = resolved.spanning_tree.link_ports(dpid)
        self._next_hops: dict[PortId, Ofport | None] = {}

    @cached_property
    def workloads(self) -> tuple[Port, ...]:
        """The workloads on this bridge."""
        here = self.world.ports_by_dpid.get(self.dpid, ())
        return tuple(p for p in here if p.kind is PortKind.VM)

    @cached_property
    def local_workloads(self) -> tuple[LocalWorkload, ...]:
        """The same, with the numbers that their flows contain."""
        numbers, places = self.world.numbers.network, self.world.placements
        found: list[LocalWorkload] = []
        for port in self.workloads:
            assert port.network is not None, "a workload is in a network"
            mac = None if port.mac is None else int(port.mac)
            found.append(LocalWorkload(port, places[port.id].ofport, numbers[port.network], mac))
        return tuple(found)

    @property
    def claims(self) -> tuple[tuple[Port, Ofport], ...]:
        """The workloads that claim to be on this bridge and are elsewhere."""
        return self.world.claims_by_dpid.get(self.dpid, ())

    @cached_property
    def tap_ports(self) -> tuple[Port, ...]:
        """The tap ports on this bridge."""
        here = self.world.ports_by_dpid.get(self.dpid, ())
        return tuple(p for p in here if p.kind is PortKind.TAP)

    @cached_property
    def members(self) -> Mapping[NetworkId, tuple[Port, ...]]:
        """The members of each network whose packets pass this bridge, wherever they are.

        A network is included when a member is on this bridge, or when two members reach each
        other only through it. Members that cannot be reached from here are left out.
        """
        found: dict[NetworkId, tuple[Port, ...]] = {}
        known = self.world.members_by_network
        here = {port.network for port in self.workloads}
        # without links only networks with a member on this bridge can pass it
        for network in known if self.link_ports else (n for n in known if n in here):
            ports = known[network]
            reached = tuple(p for p in ports if self.next_hop(p) is not None)
            next_hops = {self.next_hop(p) for p in reached if not self.is_here(p)}
            if len(next_hops) > 1 or (len(reached) > 0 and any(self.is_here(p) for p in reached)):
                found[network] = reached
        return found

    def is_here(self, port: Port) -> bool:
        """Whether a port is on this bridge now."""
        placement = self.world.placements.get(port.id)
        return placement is not None and placement.dpid == self.dpid

    def is_joined(self, port: Port) -> bool:
        """Whether links lead from this bridge to that of a placed port."""
        return self.resolved.is_joined(self.dpid, self.resolved.place(port))

    def next_hop(self, port: Port) -> Ofport | None:
        """The OpenFlow port towards ``port``: its own or a link's; None when unreachable."""
        if port.id in self._next_hops:
            return self._next_hops[port.id]
        placement, next_hop = self.world.placements.get(port.id), None
        if placement is not None and placement.dpid == self.dpid:
            next_hop = placement.ofport
        elif placement is not None and self.tag_towards(port):
            next_hop = self.first_hops.get(placement.dpid)
        self._next_hops[port.id] = next_hop
        return next_hop

    def next_hop_of_copies(self, sensor: Sensor, collector: Collector) -> Ofport | None:
        """The OpenFlow port towards a sensor: a port, link or tunnel; None when unreachable."""
        if isinstance(sensor, IPAddress):
            return self.world.tunnel_to(self.dpid, collector.delivery, sensor)
        tap = self.world.port_by_id.get(sensor)
        return None if tap is None else self.next_hop(tap)

    @property
    def datapath(self) -> Datapath | None:
        """The datapath of this bridge; None if it is not known."""
        return self.world.datapaths.get(self.dpid)

    @property
    def segmenter(self) -> Segmenter | None:
        """The usable segmenting pair of this bridge; None without one, or where none is needed."""
        is_kernel = self.datapath is Datapath.KERNEL
        return self.world.segmenter_at(self.dpid) if is_kernel else None

    def truncates(self, collector: Collector) -> bool:
        """Whether this bridge can truncate what it sends towards every sensor of a collector.

        The kernel's datapath truncates a super-frame as a whole, which loses all but its beginning:
        there a segmenter makes frames of it before.
        """
        if self.datapath is Datapath.KERNEL and self.segmenter is None:
            return False
        ports = {self.next_hop_of_copies(sensor, collector) for sensor in collector.sensors}
        places = (Placement(self.dpid, ofport) for ofport in ports if ofport is not None)
        return all(self.world.hops.get(place, NOTHING_KNOWN).truncates for place in places)

    def is_open(self, sensor: Sensor, collector: Collector) -> bool:
        """Whether copies that leave here can reach a sensor, as far as ports and routes tell."""
        spanning_tree = self.resolved.spanning_tree
        return is_open(self.dpid, sensor, collector, self.world, spanning_tree)

    def is_prepared(self, sensor: Sensor, tags: Iterable[int | None]) -> bool:
        """Whether bridges on the way to a sensor let copies with these tags pass, as far as known.

        One that is away cannot be given a way that it does not have.
        """
        known = self.world.known_ways
        place = None if isinstance(sensor, IPAddress) else self.world.placements.get(sensor)
        if not known or place is None or isinstance(sensor, IPAddress):
            return True
        crossed = [i.dpid for _, i in self.resolved.spanning_tree.exits(self.dpid, place.dpid)]
        tenant = self.world.port_by_id[sensor].tenant
        ways = [CopyWay(sensor, tag, tenant) for tag in tags]
        return all(way in known[dpid] for dpid in crossed if dpid in known for way in ways)

    def limit_of(self, session: Session) -> int | None:
        """Bytes of the longest frame that this bridge copies whole for a session; None: any."""
        return self.resolved.limit_at(self.dpid, session)

    def tag_towards(self, port: Port) -> int | None:
        """The link tag of packets of the port's network, or of copies for a tap port."""
        key = f"tap:{port.id}" if port.network is None else f"network:{port.network}"
        return self.world.numbers.tag.get(key)

    def link_tag_of_copies(self, tap: Port, tag: int | None) -> int | None:
        """The link tag of copies for a tap port of another bridge, where they wear ``tag``."""
        return self.world.numbers.tag.get(transport_key(tap.id, tag))

    def tag_of_sender(self, port: Port) -> int | None:
        """The link tag of packets that a port sends.

        Protected ports of a network share one; an unprotected port has one of its own.
        """
        key = f"network:{port.network}" if port.is_protected else f"port:{port.id}"
        return self.world.numbers.tag.get(key)

    def links_with(self, network: NetworkId) -> tuple[Ofport, ...]:
        """The links that lead to members of the network, ascending."""
        return tuple(sorted({self.ofport(p) for p in self.members[network] if not self.is_here(p)}))

    def remote_senders(self) -> Iterator[tuple[Ofport, Port]]:
        """Every workload of another bridge whose packets may arrive, with the link of arrival."""
        for ports in self.members.values():
            for port in ports:
                if not self.is_here(port):
                    yield self.ofport(port), port

    def ofport(self, port: Port) -> Ofport:
        """The OpenFlow port towards a port that is known to be reachable."""
        next_hop = self.next_hop(port)
        assert next_hop is not None, f"port {port.id} cannot be reached from {self.dpid:016x}"
        return next_hop

    def number(self, port_id: PortId) -> int:
        """The number of a port in registers."""
        return self.world.numbers.port[port_id]
