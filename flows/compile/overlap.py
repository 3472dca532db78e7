"""How no packet goes without its copy while a session moves between linked bridges.

Which bridge makes a copy follows from who sends and receives the packet, and from what the session
watches. When that changes, bridges that have changed already and bridges that have not would leave
a packet to each other. So each of them first makes the copies of the new version as well as those
of the old one, and stops to make the old ones when the others make the new ones: for a moment there
may be two copies, never none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from flows.compile.filter import filter_key_of
from flows.compile.select import TapPoint, leaves_to_others, sender_of_copied
from flows.errors import Refused
from flows.model import World, check_session
from flows.openflow import Flow, FlowKey
from flows.pipeline import (
    CAP,
    COUNT,
    CUT,
    DELIVER,
    FILTER,
    IDENTIFY,
    POOL_TABLE,
    SEND,
    SIZE,
    Cast,
)
from flows.plan import Delta, Overlap
from flows.resolve import BridgeView, ResolvedSession

SHARED = frozenset({IDENTIFY.number, FILTER.number, POOL_TABLE.number})
"""Tables whose flows sessions share: what nothing refers to any more can stay for a while."""
DELIVERY = frozenset({table.number for table in (DELIVER, CAP, SIZE, SEND, CUT, COUNT)})
"""Tables whose flows say how the copies of one session are sent, whoever was asked for them."""
SessionsAt = Mapping[int, ResolvedSession]
"""Copy sessions by number."""


@dataclass(frozen=True, slots=True)
class Move:
    """What one session has on a bridge before and after a change of what it watches."""

    number: int
    before: ResolvedSession
    after: ResolvedSession
    old_flows: tuple[Flow, ...]
    new_flows: tuple[Flow, ...]
    old_points: tuple[TapPoint, ...]
    new_points: tuple[TapPoint, ...]


def is_move(view: BridgeView, before: ResolvedSession, after: ResolvedSession) -> bool:
    """Whether copies of a session that goes on may be made by other bridges than before.

    Not if it is not served any more, or what got its copies may get none: what it had is then
    removed at once.
    """
    if not (view.link_ports and before.is_served and after.is_served):
        return False
    if before.is_exclusive is not after.is_exclusive:
        return False
    if before.session.tenant != after.session.tenant or not _may_get_copies(view, before):
        return False
    if before.session.direction is after.session.direction and before.watched == after.watched:
        return False
    placements = view.world.placements
    ports = {port.id for port in (*before.watched, *after.watched)} & placements.keys()
    dpids = {placements[port].dpid for port in ports} - {view.dpid}
    return any(view.resolved.is_joined(view.dpid, dpid) for dpid in dpids)


def may_end_late(
    view: BridgeView, before: ResolvedSession, after: ResolvedSession | None, known: World
) -> bool:
    """Whether an exclusive session that has ended may go on until others copy what it takes.

    It was deleted or switched off, and nothing else was: it could be served still. ``known`` is the
    world before.
    """
    if not (view.link_ports and before.is_exclusive and before.is_served):
        return False
    session, world = before.session, view.world
    is_off = after is None or not after.session.enabled
    number = world.numbers.session.get(session.id)
    has_rules = known.filter_by_id.get(session.filter) is world.filter_by_id.get(session.filter)
    if not is_off or number is None or number != known.numbers.session[session.id]:
        return False
    if not (has_rules and _may_get_copies(view, before)):
        return False
    try:
        check_session(
            session,
            world.port_by_id,
            world.collector_by_id,
            world.filter_by_id,
            world.network_by_id,
        )
    except Refused:
        return False
    return True


def _may_get_copies(view: BridgeView, before: ResolvedSession) -> bool:
    """Whether the collector that a session had may get copies for a moment more.

    Tap ports are its tenant's as before, or the bridge is compiled as a whole; the address and the
    key of a remote collector that was deleted or changed may be another tenant's by now.
    """
    collector = before.collector
    if collector is None or not collector.is_tunnelled:
        return collector is not None
    return view.world.collector_by_id.get(collector.id) == collector


def overlap(
    delta: Delta,
    late: Iterable[FlowKey],
    stand_ins: Iterable[Flow],
    find: Callable[[Flow], Flow | None],
    referred: Set[int],
) -> Overlap:
    """What waits until the other bridges have changed, and what stands in for it.

    ``late`` are changes of ``delta`` that wait; ``stand_ins`` the flows that the bridge has until
    then. ``find`` returns the flow that it has in the place of one after the change. ``referred``
    are the filters that it refers to then: their rules change at once.
    """
    put = {flow.key for flow in delta.put}
    gone = {flow.key: flow for flow in delta.gone}
    keys, meanwhile = set(late), dict[FlowKey, Flow]()
    restored: list[Flow] = []
    ended: list[Flow] = []
    for flow in stand_ins:
        after, before = find(flow), gone.get(flow.key)
        if flow.key in meanwhile or (after is not None and after.mark == flow.mark):
            continue
        keys.add(flow.key)
        if before is not None and before.mark == flow.mark:
            continue
        meanwhile[flow.key] = flow
        if after is not None and flow.key not in put:
            restored.append(after)
        elif after is None and before is None:
            ended.append(flow)
    if keys:
        shared = [flow for flow in delta.gone if flow.table in SHARED]
        keys |= {flow.key for flow in shared if filter_key_of(flow) not in referred}
    return Overlap(frozenset(keys), tuple(meanwhile.values()), tuple(restored), tuple(ended))


def leaving_points(moves: Iterable[Move]) -> Mapping[TapPoint, SessionsAt]:
    """Where copy sessions are not asked any more, and have to be asked for a moment more."""
    leaving: defaultdict[TapPoint, dict[int, ResolvedSession]] = defaultdict(dict)
    for move in moves:
        if not move.after.is_exclusive:
            present = move.after if move.new_points else move.before
            for point in set(move.old_points) - set(move.new_points):
                leaving[point][move.number] = present
    return leaving


def late_changes(view: BridgeView, move: Move) -> Iterator[FlowKey]:
    """The session's own flows that are to be changed or removed late."""
    new = {flow.key: flow for flow in move.new_flows}
    old = {flow.key: flow for flow in move.old_flows}
    watched = {port.id: port for port in (*move.before.watched, *move.after.watched)}.values()
    placed = [port for port in watched if port.id in view.world.placements]
    here = frozenset(view.number(port.id) for port in placed if view.is_here(port))
    before = _Makers(_senders(view, move.before) | here, _is_asked(move.old_points))
    after = _Makers(_senders(view, move.after) | here, _is_asked(move.new_points))
    for key, flow in old.items():
        # what still sends its copies here sends all of them as the new version says
        is_replaced = flow.table in DELIVERY and bool(move.new_points)
        if key in new or is_replaced or (leaves_to_others(flow) and after.contradict(flow)):
            continue
        yield key
    for key, flow in new.items():
        if flow != old.get(key) and leaves_to_others(flow) and before.contradict(flow):
            yield key


@dataclass(frozen=True, slots=True)
class _Makers:
    """Who makes copies of a session in one version of the world."""

    senders: frozenset[int]
    """The numbers of the ports whose bridges make the copies of what they send, or that are on this
    bridge: what it makes of theirs changes at once."""
    is_asked: bool
    """Whether this bridge is asked about flooded packets."""

    def contradict(self, flow: Flow) -> bool:
        """Whether a flow that leaves copies to another bridge is wrong in this version.

        The copy of what a sender has sent is left to its bridge only if that makes it; a flooded
        packet is left to another bridge unless this one may have to copy it.
        """
        sender = sender_of_copied(flow)
        return self.is_asked if sender is None else sender not in self.senders


def _senders(view: BridgeView, resolved_session: ResolvedSession) -> frozenset[int]:
    """The numbers of the ports whose bridges make the copies of what they send."""
    if not resolved_session.session.direction.is_egress:
        return frozenset()
    known = view.world.placements
    return frozenset(view.number(port.id) for port in resolved_session.watched if port.id in known)


def _is_asked(points: Iterable[TapPoint]) -> bool:
    return any(point[-1] is Cast.FLOOD for point in points)
