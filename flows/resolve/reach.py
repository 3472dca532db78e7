"""How far a session's copies get, hop by hop: settings that stop them, and what is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netaddr import IPAddress

from flows.model import (
    NOTHING_KNOWN,
    PATH_MTUS,
    STOPS_ARRIVALS,
    STOPS_COPIES,
    Collector,
    Datapath,
    Dpid,
    Hop,
    NetworkId,
    Offloads,
    Oversize,
    PairState,
    Placement,
    Port,
    RouteState,
    Segmenter,
    Session,
    Setting,
    SpanningTree,
    TagMode,
    World,
    restoring_sentence,
    tap_limit,
)
from flows.resolve.obstacles import at_link_end, why_stopped

NAME_DATABASE = "name that of its host in `remotes` of [ovsdb]"


SUPER_FRAMES = "frames of up to 64 kB with unfinished checksums"
"""What a sensor gets where nobody segments what the kernel datapath sends (see Offloads)."""
PRODUCTION_PARTS = 2
"""Copies get one of so many parts of a slow port that production passes too: of a link, or of the
device by which tunnels leave."""


@dataclass(frozen=True, slots=True)
class SlowPort:
    """A port on the way of a session's copies that is known to send little.

    ``key`` tells it from others: its place, or the name of the device by which tunnels leave.
    ``kbps`` is what copies may use, in kilobits a second; ``makers`` is how many bridges make
    copies that pass it.
    """

    key: Placement | str
    kbps: int
    makers: int


@dataclass(frozen=True, slots=True)
class SessionReach:
    """The ports that one session watches, its tap ports and remote sensors, in a world."""

    session: Session
    watched: tuple[Port, ...]
    taps: tuple[Port, ...]
    collector: Collector | None
    world: World
    spanning_tree: SpanningTree

    @property
    def is_guarded(self) -> bool:
        """Whether a copy may be longer than the device of a tap port sends."""
        may_wear_tag = self.collector is not None and self.collector.tenant_tag is not TagMode.NONE
        longest = longest_of(self.world, self._networks())
        return any(
            tap_limit(self.world.hop_of(tap.id), longest, is_tagged=may_wear_tag) is not None
            for tap in self.taps
        )

    @property
    def slow_ports(self) -> tuple[SlowPort, ...]:
        """The ports on the way that are known to send less than copies may need."""
        rates: dict[Placement | str, int] = {}
        makers: dict[Placement | str, set[Dpid]] = {}
        for here, key, kbps in self._rates():
            rates[key] = kbps
            makers.setdefault(key, set()).add(here)
        return tuple(SlowPort(key, kbps, len(makers[key])) for key, kbps in rates.items())

    def _rates(self) -> Iterator[tuple[Dpid, Placement | str, int]]:
        """Each slow port that copies of a bridge pass, with what they may use of it in kbit/s."""
        hops = self.world.hops
        for here, to in self._ways_to_taps():
            tap = hops.get(to, NOTHING_KNOWN)
            if tap.rate_kbps is not None:
                yield here, to, tap.rate_kbps
            for out, _ in self.spanning_tree.exits(here, to.dpid):
                link = hops.get(out, NOTHING_KNOWN)
                if link.rate_kbps is not None:
                    yield here, out, max(1, link.rate_kbps // PRODUCTION_PARTS)
        for here, address in self._ways():
            route = self.world.routes.get((here, address))
            if route is not None and route.rate_kbps is not None:
                yield here, route.device, max(1, route.rate_kbps // PRODUCTION_PARTS)

    def obstacles(self) -> Iterator[str]:
        """Settings and routes on the way with which copies do not arrive, a sentence each."""
        yield from self._restoring()
        for port in self.watched:
            yield from self._at_source(port)
        for tap in self.taps:
            yield from tap_obstacles(tap, self.world)
        yield from self._at_links()
        yield from self._not_truncated()
        yield from self._at_tunnels()
        yield from self._without_route()

    def unknowns(self) -> Iterator[str]:
        """What could not be checked, a sentence each."""
        unseen: dict[str, None] = {}
        for tap in self.taps:
            hop = self.world.hop_of(tap.id)
            if hop is None:
                continue
            if not hop.is_reported:
                unseen[hop.bridge] = None
            elif hop.mtu is None:
                yield (
                    f"unknown: the MTU of tap port {tap.name!r} is not reported, so longer copies "
                    "may be lost there"
                )
            yield from unseen_offloads(tap, hop)
        for port in self.watched:
            hop = self.world.hop_of(port.id)
            if hop is not None and not hop.is_reported:
                unseen[hop.bridge] = None
        for bridge in unseen:
            yield (
                f"unknown: no database that knows bridge {bridge!r} is reached, so its datapath, "
                f"and MTU, rate and settings of its ports cannot be seen: {NAME_DATABASE}"
            )
        yield from self._unknown_routes()

    def _restoring(self) -> Iterator[str]:
        hops = [self._hop(port) for port in (*self.watched, *self.taps)]
        bridges = {hop.bridge: None for hop in hops if Setting.RESTORING in hop.settings}
        for bridge in bridges:
            yield restoring_sentence(bridge)

    def _at_source(self, port: Port) -> Iterator[str]:
        stopping = {
            Setting.NO_RECEIVE: f"what port {port.name!r} sends is dropped and not copied",
            Setting.NO_FORWARD: (
                f"port {port.name!r} receives nothing, so copies of what it should receive are of "
                "packets that it did not get"
            ),
            Setting.NOT_FORWARDING: f"port {port.name!r} sends and receives nothing",
        }
        if not self.session.direction.is_ingress:
            del stopping[Setting.NO_FORWARD]
        place = self.world.placements[port.id]
        for setting, what in stopping.items():
            yield from why_stopped(what, self._hop(port), place, frozenset((setting,)))

    def _at_links(self) -> Iterator[str]:
        """Ends of links that let nothing pass, on the ways from bridges to tap ports."""
        if not self.world.broken_links:
            return
        exits = self.spanning_tree.exits
        crossed = (pair for here, to in self._ways_to_taps() for pair in exits(here, to.dpid))
        for out, into in dict.fromkeys(crossed):
            if out in self.world.broken_links:
                yield from at_link_end(out, self.world, STOPS_COPIES, "copies")
                yield from at_link_end(into, self.world, STOPS_ARRIVALS, "copies")

    def _not_truncated(self) -> Iterator[str]:
        """Ports at which copies cannot be truncated, as the session wants them."""
        if self.session.packet_length is None:
            return
        for here in self._makers():
            if cuts_super_frames(here, self.world):
                bridge = self._bridge(here)
                yield (
                    f"packets longer than {self.session.packet_length} bytes are not copied, "
                    f"because {why_not_segmented(here, bridge, self.world)}, "
                    "or use no packet_length"
                )
        ports: dict[Placement, None] = {}
        for here, to in self._ways_to_taps():
            exits = self.spanning_tree.exits(here, to.dpid)
            out = to if here == to.dpid else next((out for out, _ in exits), None)
            if out is not None:
                ports[out] = None
        for hop in (self.world.hops.get(port, NOTHING_KNOWN) for port in ports):
            if not hop.truncates:
                yield (
                    f"packets longer than {self.session.packet_length} bytes are not copied, "
                    f"because Open vSwitch cannot truncate what bridge {hop.bridge!r} sends to "
                    f"patch port {hop.interface!r}: use veth devices in its place, or no "
                    "packet_length"
                )

    def _ways_to_taps(self) -> Iterator[tuple[Dpid, Placement]]:
        """Each bridge that makes copies, with the place of each tap port."""
        for here in self._makers():
            for tap in self.taps:
                yield here, self.world.placements[tap.id]

    def _at_tunnels(self) -> Iterator[str]:
        """Ports for its tunnels that a bridge lacks for some sensors, or that send nothing."""
        collector, world, ports = self.collector, self.world, dict[Placement, None]()
        if collector is None or not collector.is_tunnelled:
            return
        for here, address in self._ways():
            number = world.tunnel_to(here, collector.delivery, address)
            if number is not None:
                ports[Placement(here, number)] = None
            elif world.has_tunnel(here, collector):
                kind = world.tunnel_kind(here, collector.delivery, address)
                yield (
                    f"bridge {self._bridge(here)!r} has no tunnel port for {kind}, so it sends no "
                    f"copies to sensor {address}"
                )
        for place in ports:
            hop = world.hops.get(place, NOTHING_KNOWN)
            what = f"tunnel port {hop.interface!r} sends nothing"
            yield from why_stopped(what, hop, place, STOPS_COPIES)

    def _without_route(self) -> Iterator[str]:
        for here, address in self._ways():
            route = self.world.routes.get((here, address))
            bridge = self._bridge(here)
            if route is not None and route.state is RouteState.MISSING:
                yield (
                    f"no route: bridge {bridge!r} has no route to sensor {address}, so its copies "
                    f"do not leave: see `ovs-appctl ovs/route/lookup {address}` on its host"
                )
            elif route is not None and route.state is RouteState.UPLINK_DOWN:
                yield (
                    f"uplink down: the route of bridge {bridge!r} to sensor {address} leaves by "
                    f"bridge {route.device!r}, and no port of that one is up ({route.why}), so its "
                    "copies do not leave"
                )
            elif route is not None and route.is_broken:
                yield (
                    f"no route: the route of bridge {bridge!r} to sensor {address} leaves by "
                    f"{route.device!r}, which is on no bridge, so its copies do not leave: the "
                    "userspace datapath sends tunnels only by devices of its bridges"
                )

    def _unknown_routes(self) -> Iterator[str]:
        for here, address in self._ways():
            route, bridge = self.world.routes.get((here, address)), self._bridge(here)
            if route is not None and route.state is RouteState.UNKNOWN:
                yield (
                    f"unknown: cannot see whether bridge {bridge!r} has a route to sensor "
                    f"{address}: {route.why}"
                )
            elif route is not None and route.mtu is not None and route.mtu < PATH_MTUS.start:
                yield (
                    f"unknown: {route.device!r} of bridge {bridge!r} sends at most {route.mtu} "
                    f"bytes, and tunnels need {PATH_MTUS.start}: copies for sensor {address} may "
                    "be lost there"
                )
            elif route is not None and route.unresolved and not route.is_broken:
                yield (
                    f"unknown: nobody has answered yet for {route.unresolved} at {route.device!r} "
                    f"of bridge {bridge!r}: until then copies for sensor {address} are lost"
                )

    def _ways(self) -> Iterator[tuple[Dpid, IPAddress]]:
        """Each bridge that makes copies, with each remote sensor."""
        makers = sorted(self._makers())
        for address in self.collector.addresses if self.collector is not None else ():
            for dpid in makers:
                yield dpid, address

    def _makers(self) -> Iterable[Dpid]:
        """The bridges that make its copies: where its watched ports are."""
        return dict.fromkeys(self.world.placements[port.id].dpid for port in self.watched)

    def _networks(self) -> frozenset[NetworkId]:
        return frozenset(port.network for port in self.watched if port.network is not None)

    def _hop(self, port: Port) -> Hop:
        return self.world.hop_of(port.id) or Hop()

    def _bridge(self, dpid: Dpid) -> str:
        ports = (p for p in self.watched if self.world.placements[p.id].dpid == dpid)
        names = (_bridge_name(dpid, self._hop(port), self.world) for port in ports)
        return next((name for name in names if name), f"{dpid:016x}")


def unprepared_bridges(session: Session, watched: Iterable[Port], world: World) -> Iterator[str]:
    """The names of the bridges of some watched ports that leave out copies of a session which they
    should truncate.
    """
    if session.oversize is Oversize.TRUNCATE:
        hops = {world.placements[port.id].dpid: world.hop_of(port.id) for port in watched}
        for dpid, hop in sorted(hops.items()):
            if cuts_super_frames(dpid, world):
                yield _bridge_name(dpid, hop, world) or f"{dpid:016x}"


def why_not_segmented(here: Dpid, bridge: str, world: World) -> str:
    """Why a bridge, which has a name, truncates nothing, and what to do; the end of a sentence."""
    pair = world.segmenters.get(here)
    mend = f"run `cloudtap bridge prepare {bridge}` as root on its host"
    of_pair = f"of the segmenting pair of bridge {bridge!r}"
    match None if pair is None else pair.state:
        case PairState.OFFLOADED:
            return (
                f"a device {of_pair} has offloads, so that it hands on super-frames (TSO, GRO), "
                f"which the kernel's datapath truncates as a whole: {mend}"
            )
        case PairState.SHORT:
            return f"a device {of_pair} has another MTU than it was given: {mend}"
        case PairState.DOWN:
            return f"a device {of_pair} is down: {mend}"
        case PairState.APART:
            return (
                f"the devices {of_pair} are not the two ends of one veth device: give these "
                f"devices other names, then {mend}"
            )
    return (
        f"the kernel's datapath of bridge {bridge!r} truncates a super-frame (TSO, GRO) as a "
        f"whole: {mend}"
    )


def unseen_segmenter(bridge: str, pair: Segmenter) -> Iterator[str]:
    """That it cannot be seen what the devices of a bridge's pair do; none if it can."""
    cannot_see = (
        f"unknown: cannot see whether the segmenting pair of bridge {bridge!r} makes frames of "
        "super-frames"
    )
    if_not = "if it does not, copies that must be truncated are lost"
    prepare = f"run `cloudtap bridge prepare {bridge}` as root"
    match pair.state:
        case PairState.FAR:
            yield f"{cannot_see}, because its host is another one: {if_not}: {prepare} there"
        case PairState.OUTDATED:
            yield (
                f"{cannot_see}, because what its database records is of earlier devices: {if_not}: "
                f"{prepare} on its host again"
            )
        case PairState.UNSEEN:
            yield (
                f"{cannot_see}, because neither the controller nor ovs-vswitchd of its host sees "
                f"its devices: {if_not}: {prepare} where they are"
            )


def cuts_super_frames(here: Dpid, world: World) -> bool:
    """Whether a bridge would truncate super-frames as a whole, so that it truncates nothing."""
    return world.datapaths.get(here) is Datapath.KERNEL and world.segmenter_at(here) is None


def sensor_notes(collector: Collector, world: World) -> Iterator[str]:
    """What is known of the tap ports of a collector that matters to its copies."""
    for tap in (world.port_by_id.get(port_id) for port_id in collector.tap_ports):
        hop = None if tap is None else world.hop_of(tap.id)
        if tap is None or hop is None:
            continue
        if hop.rate_kbps is not None:
            yield (
                f"tap port {tap.name!r} sends little: its sessions get {hop.rate_kbps} kbps "
                "together, so that production does not wait for it"
            )
        yield from tap_obstacles(tap, world)


def tap_obstacles(tap: Port, world: World) -> Iterator[str]:
    """Settings of a placed tap port and its device with which it receives nothing, or frames that
    a sensor drops; a sentence each.
    """
    hop = world.hop_of(tap.id) or Hop()
    what = f"tap port {tap.name!r} receives nothing"
    yield from why_stopped(what, hop, world.placements[tap.id], STOPS_COPIES)
    left = (
        f"{_named(tap, hop)}: its device {hop.interface} leaves segmentation and checksums to "
        f"others: the sensor would get {SUPER_FRAMES}"
    )
    if hop.offloads is Offloads.LEFT:
        yield f"{left}: run `ethtool -K {hop.interface} tx off` on its host"
    elif hop.offloads is Offloads.ALWAYS_LEFT:
        yield f"{left}, and this cannot be changed there: use one end of a veth pair in its place"


def unseen_offloads(tap: Port, hop: Hop) -> Iterator[str]:
    """That it cannot be seen who segments and finishes what a tap port gets; none if it can."""
    prepare = f"run `cloudtap tap-port prepare {hop.interface}`"
    cannot_see = (
        f"unknown: cannot see whether device {hop.interface} of {_named(tap, hop)} segments and "
        "finishes checksums"
    )
    if_not = f"if it does not, the sensor gets {SUPER_FRAMES}"
    match hop.offloads:
        case Offloads.FAR:
            yield f"{cannot_see}, because its host is another one: {if_not}: {prepare} there"
        case Offloads.OUTDATED:
            yield (
                f"{cannot_see}, because what its database records is of an earlier device: "
                f"{if_not}: {prepare} on its host again"
            )
        case Offloads.UNSEEN:
            yield (
                f"{cannot_see}, because neither the controller nor ovs-vswitchd of its host sees "
                f"such a device: {if_not}: switch its offloads off where it is (`ethtool -K "
                f"{hop.interface} tx off`), then run `ovs-vsctl set Interface {hop.interface} "
                "external_ids:cloudtap-offloads=off`"
            )


def _bridge_name(dpid: Dpid, hop: Hop | None, world: World) -> str:
    """The name of the bridge that copies what a port sends and gets; empty if it is not known.

    ``hop`` is that of the port. On the bridge of an owner it has the name of that bridge, on which
    an operator must change nothing: the tap bridge makes the copies.
    """
    attachment = world.attachments.get(dpid)
    if attachment is not None:
        return attachment.name
    return hop.bridge if hop is not None else ""


def _named(tap: Port, hop: Hop) -> str:
    return f"tap port {tap.name!r} on bridge {hop.bridge!r}"


def longest_of(world: World, networks: Iterable[NetworkId]) -> int | None:
    """The MTU of the longest packets in some networks, in bytes; None if it is not known."""
    known = [world.longest_by_network.get(network) for network in networks]
    bounded = [longest for longest in known if longest is not None]
    return max(bounded, default=None) if len(bounded) == len(known) else None
