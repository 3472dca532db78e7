"""One session in a world: the ports that it watches, where its copies go, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from netaddr import IPAddress

from flows.errors import NoMeterLeft, Refused
from flows.model import (
    ALL,
    METERS,
    Collector,
    Dpid,
    FilterId,
    Mode,
    NetworkId,
    Placement,
    Port,
    Rate,
    Sensor,
    Session,
    SessionId,
    SourceKind,
    SpanningTree,
    World,
    check_session,
    transport_key,
    watched_by,
)
from flows.resolve.mirrors import (
    MirrorClaim,
    MirrorUse,
    address_doubts,
    address_troubles,
    mirror_claims,
    own_uses,
    uncovered_ports,
)
from flows.resolve.reach import SessionReach, SlowPort

NO_SHARES: Mapping[Dpid, tuple[MirrorUse, ...]] = {}


@dataclass(frozen=True, slots=True)
class ResolvedSession:
    """A session, and the ports, tap ports and collector that its ids stand for now.

    ``watched`` are the placed source ports whose copies can reach a sensor. If there are none, and
    it competes with no other session, they are all of them: ``is_adrift`` says that bridges count
    its copies as lost. ``taps`` are the placed tap ports of the collector; ``collector`` is None
    when it does not exist. ``is_far``: copies that some bridge makes cross a link. ``is_guarded``:
    a tap port may send only shorter frames than copies can be; ``slow_ports`` on the way send
    little in a second. ``missing`` names in sentences what does not exist, is unreachable or lets
    no copies pass, and ``unknown`` what could not be checked; ``refused`` is the reason why nothing
    at all may be copied. ``cut_off`` are the regions, by their lowest datapath id, in
    which it watches ports and none of its copies can reach a sensor; noted of exclusive sessions
    only. ``is_fading``: it has ended, and bridges that were not told yet may still
    send copies of it over links. ``claims`` are what it wants of bridges of others, and
    ``mirrors`` the Mirrors that it gets there.
    """

    session: Session
    watched: tuple[Port, ...] = ()
    taps: tuple[Port, ...] = ()
    collector: Collector | None = None
    missing: tuple[str, ...] = ()
    refused: Refused | None = None
    is_far: bool = False
    unknown: tuple[str, ...] = ()
    is_guarded: bool = False
    slow_ports: tuple[SlowPort, ...] = ()
    cut_off: frozenset[Dpid] = frozenset()
    is_adrift: bool = False
    is_fading: bool = False
    claims: tuple[MirrorClaim, ...] = ()
    mirrors: tuple[MirrorUse, ...] = ()

    @property
    def is_served(self) -> bool:
        """Whether bridges have flows for it: at least one port can be watched, and copies have a
        destination or are counted as lost.
        """
        if self.collector is None or self.refused or not self.session.enabled:
            return False
        has_sensor = self.taps or self.collector.is_tunnelled
        return bool(self.watched and (has_sensor or self.is_adrift))

    @property
    def is_delivered(self) -> bool:
        """Whether copies of at least one port can be made and have a destination."""
        return self.is_served and not self.is_adrift

    @property
    def has_flows(self) -> bool:
        """Whether bridges have flows for it; one that fades away has but the ways of its copies."""
        return self.is_served or self.is_fading

    @property
    def is_exclusive(self) -> bool:
        """Whether it competes with other sessions for its packets."""
        return self.session.mode is Mode.EXCLUSIVE

    @property
    def is_plain(self) -> bool:
        """Whether it accepts every packet."""
        return self.session.filter == ALL

    @property
    def filtering(self) -> tuple[SessionId, FilterId]:
        """Which session it is, and by which filter it accepts packets."""
        return self.session.id, self.session.filter

    @property
    def networks(self) -> frozenset[NetworkId]:
        """The networks of the ports that it watches."""
        return frozenset(port.network for port in self.watched if port.network is not None)

    def is_staged(self, bridge_rate: Rate | None) -> bool:
        """Whether copies pass all delivery tables: they are capped, cut, spread or tunnelled."""
        session, collector = self.session, self.collector
        if session.max_rate is not None or bridge_rate is not None:
            return True
        if session.packet_length is not None or self.slow_ports:
            return True
        return collector is not None and (collector.is_tunnelled or len(collector.sensors) > 1)


def resolve_session(
    session: Session,
    world: World,
    spanning_tree: SpanningTree,
    shares: Mapping[Dpid, tuple[MirrorUse, ...]] = NO_SHARES,
) -> ResolvedSession:
    """Resolve one session by itself; whether switches have room for it is decided by Admission.

    ``shares`` are the Mirrors that it gets on bridges that have no room for one for each session.
    """
    refused = _without_ports(session, world)
    if refused is not None:
        return refused
    missing: list[str] = []
    collector = world.collector_by_id.get(session.collector)
    taps = _placed_taps(collector, world, missing)
    selected, placed = _selected_ports(session, world, missing)
    unreached = _unreached_ports(placed, collector, taps, world, spanning_tree)
    missing += unreached.values()
    watched = [port for port in placed if port not in unreached]
    has_sensor = collector is None or collector.is_tunnelled or bool(taps)
    is_adrift = bool(placed) and not (watched and has_sensor)
    if is_adrift:  # of exclusive sessions the next one gets the packets
        is_adrift = session.mode is not Mode.EXCLUSIVE
        watched = (watched or placed) if is_adrift else []
    claims = mirror_claims(session, watched, world) if world.attachments else ()
    mirrors = _mirror_uses(claims, world, shares)
    watched = _mirrored(watched, mirrors, world, missing)
    if not watched and not missing:
        missing.append(_why_nothing_is_watched(session, bool(selected)))
    is_far = _is_far(watched, taps, world, spanning_tree)
    found = ResolvedSession(
        session, tuple(watched), taps, collector, tuple(missing), is_far=is_far,
        is_adrift=is_adrift, claims=claims, mirrors=mirrors,
        unknown=tuple(address_doubts(watched, mirrors, world)),
    )  # fmt: skip
    if is_adrift:
        return found
    if collector is not None and found.is_exclusive:
        found = replace(found, cut_off=_cut_off(watched, collector, world, spanning_tree))
    return _with_reach(found, world, spanning_tree)


def _selected_ports(
    session: Session, world: World, missing: list[str]
) -> tuple[Sequence[Port], list[Port]]:
    """The ports that a session selects, and those of them that it can watch where they are placed;
    adds to ``missing`` why not others.
    """
    known = world.port_by_id
    unknown = [port_id for port_id in session.source.ports if port_id not in known]
    missing += [f"port {port_id!r} is in no inventory" for port_id in unknown]
    selected = watched_by(session, candidate_ports(session, world))
    if session.source.kind is SourceKind.PORT:  # of a network or label some may be off
        gone = (port for port in selected if port.id not in world.placements)
        missing += [f"port {port.name!r} is on no bridge" for port in gone]
    placed = [port for port in selected if port.id in world.placements]
    if session.mode is Mode.EXCLUSIVE and world.attachments:
        placed = _without_bridges_of_others(placed, world, missing)
    return selected, placed


def _without_bridges_of_others(
    placed: Sequence[Port], world: World, missing: list[str]
) -> list[Port]:
    """The ports on bridges of ours; adds to ``missing`` why an exclusive session skips others."""
    others = [port for port in placed if world.placements[port.id].owner]
    missing += [
        f"port {port.name!r} is on a bridge of somebody else, where sessions cannot be exclusive: "
        "give the session mode copy"
        for port in others
    ]
    return [port for port in placed if port not in others]


def _mirror_uses(
    claims: Sequence[MirrorClaim], world: World, shares: Mapping[Dpid, tuple[MirrorUse, ...]]
) -> tuple[MirrorUse, ...]:
    """The Mirrors for what a session claims: those of its own, except where some are shared."""
    found: list[MirrorUse] = []
    for dpid, claimed in groupby(claims, key=attrgetter("dpid")):
        if dpid in shares:
            found += shares[dpid]
        else:
            found += (use for c in claimed for use in own_uses(c, world.attachments[dpid]))
    return tuple(found)


def _mirrored(
    ports: Sequence[Port], mirrors: Sequence[MirrorUse], world: World, missing: list[str]
) -> list[Port]:
    """The ports of which something is copied; adds to ``missing`` what is not, or not for sure."""
    uncovered = uncovered_ports(ports, mirrors, world) if world.attachments else {}
    missing += [why for why, _ in uncovered.values()]
    watched = [port for port in ports if uncovered.get(port, ("", True))[1]]
    missing += address_troubles(watched, mirrors, world)
    return watched


def _without_ports(session: Session, world: World) -> ResolvedSession | None:
    """A session that may watch no port, whatever is placed; None: it may."""
    try:
        check_session(
            session,
            world.port_by_id,
            world.collector_by_id,
            world.filter_by_id,
            world.network_by_id,
        )
    except Refused as refusal:
        return ResolvedSession(session, refused=refusal)
    if session.max_rate is not None and session.id not in world.numbers.meter:
        return ResolvedSession(
            session, refused=NoMeterLeft(session.name, session.tenant, len(METERS))
        )
    if session.filter != ALL and session.filter not in world.filter_by_id:
        return ResolvedSession(session, missing=("its filter is gone",))
    return None


def _why_nothing_is_watched(session: Session, are_ports_declared: bool) -> str:
    source = session.source
    if are_ports_declared:
        return "no port that it should watch is on a bridge now"
    match source.kind:
        case SourceKind.LABEL:
            labels = ", ".join(f"{key}={value}" for key, value in source.labels)
            return f"no workload of tenant {session.tenant!r} has the label {labels}"
        case SourceKind.NETWORK:
            return "the inventory declares no workload in the network that it should watch"
        case _:
            return f"the inventory declares no workload of tenant {session.tenant!r}"


def candidate_ports(session: Session, world: World) -> Iterable[Port]:
    """The declared ports that a session's source selects from, placed or not."""
    if session.source.kind is SourceKind.PORT:
        known = world.port_by_id
        return (known[p] for p in session.source.ports if p in known)
    return world.workloads


def is_deliverable(here: Dpid, tap: Port, world: World, spanning_tree: SpanningTree) -> bool:
    """Whether copies that bridge ``here`` makes can reach a placed tap port."""
    there = world.placements[tap.id].dpid
    if here == there:
        return True
    has_tag = transport_key(tap.id, None) in world.numbers.tag
    return has_tag and spanning_tree.component(here) == spanning_tree.component(there)


def is_open(
    here: Dpid, sensor: Sensor, collector: Collector, world: World, spanning_tree: SpanningTree
) -> bool:
    """Whether copies that leave a bridge can reach a sensor, as far as ports and routes tell."""
    if world.is_stopped(sensor) or world.is_cut_off(here, collector.delivery, sensor):
        return False
    if isinstance(sensor, IPAddress):
        return world.tunnel_to(here, collector.delivery, sensor) is not None
    tap = world.port_by_id.get(sensor)
    if tap is None or tap.id not in world.placements:
        return False
    return is_deliverable(here, tap, world, spanning_tree) and not _is_severed(
        here, world.placements[tap.id], world, spanning_tree
    )


def _is_severed(here: Dpid, to: Placement, world: World, spanning_tree: SpanningTree) -> bool:
    """Whether a link on the way of copies to a tap port carries nothing."""
    exits = spanning_tree.exits(here, to.dpid) if world.broken_links else ()
    return any(out in world.broken_links for out, _ in exits)


def _cut_off(
    watched: Iterable[Port], collector: Collector, world: World, spanning_tree: SpanningTree
) -> frozenset[Dpid]:
    """The regions in which none of the bridges of some ports can send copies to a sensor."""
    regions: dict[Dpid, bool] = {}
    for here in {world.placements[port.id].dpid for port in watched}:
        can_send = any(
            is_open(here, sensor, collector, world, spanning_tree) for sensor in collector.sensors
        )
        region = spanning_tree.component(here)
        regions[region] = regions.get(region, False) or can_send
    return frozenset(region for region, can_send in regions.items() if not can_send)


def _placed_taps(collector: Collector | None, world: World, missing: list[str]) -> tuple[Port, ...]:
    """The placed tap ports of a collector; adds what is wrong with its sensors to ``missing``."""
    if collector is None:
        missing.append("its collector is gone")
        return ()
    placed: list[Port] = []
    for port_id in collector.tap_ports:
        tap = world.port_by_id.get(port_id)
        if tap is None:
            missing.append(f"tap port {port_id!r} is in no inventory")
        elif tap.id not in world.placements:
            missing.append(f"tap port {tap.name!r} is on no bridge")
        else:
            placed.append(tap)
    for sensor in collector.sensors:
        if world.is_dead(collector, sensor):
            missing.append(_down_sentence(collector, sensor, world))
    return tuple(placed)


def _down_sentence(collector: Collector, sensor: Sensor, world: World) -> str:
    """A sensor that is down, and what becomes of the copies that are sent to it all the same."""
    tap = None if isinstance(sensor, IPAddress) else world.port_by_id.get(sensor)
    name = str(sensor) if tap is None else tap.name
    sentence = f"sensor {name!r} is down"
    if world.is_stopped(sensor):
        return sentence
    if not all(world.is_down(collector, each) for each in collector.sensors):
        return f"{sentence}: its probe fails"
    return (
        f"{sentence}: its probe fails, so nobody knows whether it gets the copies that are sent to "
        "it and counted"
    )


def _with_reach(
    found: ResolvedSession, world: World, spanning_tree: SpanningTree
) -> ResolvedSession:
    """The same session, with what is known of its copies: their hops, and whether they end."""
    is_ended = not found.session.enabled and found.session.id in world.fading
    reach = SessionReach(
        found.session, found.watched, found.taps, found.collector, world, spanning_tree
    )
    return replace(
        found,
        missing=(*found.missing, *reach.obstacles()),
        unknown=(*found.unknown, *reach.unknowns()),
        is_guarded=reach.is_guarded,
        slow_ports=reach.slow_ports,
        is_fading=is_ended and bool(found.watched and found.taps and not found.is_adrift),
    )


def _unreached_ports(
    placed: Iterable[Port],
    collector: Collector | None,
    taps: tuple[Port, ...],
    world: World,
    spanning_tree: SpanningTree,
) -> Mapping[Port, str]:
    """The ports of which copies reach no sensor, each with the reason."""
    if collector is None:
        return {}
    reasons = {port: _unreachable(port, collector, taps, world, spanning_tree) for port in placed}
    return {port: reason for port, reason in reasons.items() if reason}


def _unreachable(
    port: Port,
    collector: Collector,
    taps: tuple[Port, ...],
    world: World,
    spanning_tree: SpanningTree,
) -> str:
    """Why copies of a port's packets reach no sensor; empty when they reach one."""
    here = world.placements[port.id].dpid
    if collector.is_tunnelled:
        if world.has_tunnel(here, collector):
            return ""
        kinds = {world.tunnel_kind(here, collector.delivery, a) for a in collector.addresses}
        named = " or ".join(sorted(map(str, kinds)))
        return f"the bridge of port {port.name!r} has no tunnel port for {named}"
    if not taps or any(is_deliverable(here, tap, world, spanning_tree) for tap in taps):
        return ""
    names = " or ".join(repr(tap.name) for tap in taps)
    return f"no link leads from port {port.name!r} to tap port {names}"


def _is_far(
    watched: Iterable[Port], taps: tuple[Port, ...], world: World, spanning_tree: SpanningTree
) -> bool:
    """Whether copies that one of the bridges makes cross a link."""
    if not taps:
        return False
    places = world.placements
    dpids = {places[port.id].dpid for port in watched}
    return any(
        dpid != places[tap.id].dpid and is_deliverable(dpid, tap, world, spanning_tree)
        for dpid in dpids
        for tap in taps
    )
