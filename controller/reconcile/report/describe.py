"""The status of sessions and bridges, computed from what the switches have confirmed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

from controller.reconcile.bridge import WriterView, contested_reason, knows
from controller.reconcile.mirror_demand import crowded_out
from controller.reconcile.protocols import BridgeNotes, Doubting, Mirroring, Tunnelling
from controller.reconcile.report.super_frames import packet_limit_notes
from controller.reconcile.snapshot import Snapshot
from controller.status import BridgeShare, BridgeStatus, SessionStatus, State, with_starvation
from flows.errors import NoLinkTagLeft
from flows.explain import Answer
from flows.model import (
    Collector,
    Dpid,
    Placement,
    PortId,
    Session,
    SessionId,
    SourceKind,
    TunnelKind,
    watched_by,
)
from flows.openflow import VLAN_IDS
from flows.resolve import (
    ResolvedSession,
    ResolvedWorld,
    undelivered,
    unprepared_bridges,
    without_link,
)

UNKNOWN_VERSION = "which version of the session it goes on with is not known"


def describe_session(
    session: SessionId,
    snapshot: Snapshot | None,
    views: Sequence[WriterView],
    problem: str | None,
    holders: Mapping[Dpid, str],
) -> SessionStatus:
    """The status of one session, from a snapshot and from what each bridge has confirmed.

    ``holders`` are the names of the bridges that may be making copies of it.
    """
    if snapshot is None:
        return SessionStatus(State.PENDING, (problem or "the world is not known yet",))
    status = _describe(session, snapshot, views, holders)
    resolved_session = snapshot.resolved.sessions.get(session)
    if resolved_session is None or resolved_session.collector is None:
        return status
    status = replace(
        status,
        largest_frame=snapshot.resolved.limit_of(resolved_session.session),
        port_rate=snapshot.resolved.port_caps.get(session),
        unprepared=tuple(
            unprepared_bridges(
                resolved_session.session, resolved_session.watched, snapshot.resolved.world
            )
        ),
    )
    uncompilable = {view.dpid: view.confirmed.uncompilable.keys() for view in views}
    places = {port.id: snapshot.resolved.place(port) for port in resolved_session.watched}
    failed = {port: uncompilable[dpid] for port, dpid in places.items() if dpid in uncompilable}
    settled = _settled(resolved_session, snapshot, views)
    return with_starvation(status, resolved_session, settled, failed)


def describe_bridge(
    dpid: Dpid, name: str, view: WriterView | None, snapshot: Snapshot | None
) -> BridgeStatus:
    """The status of one bridge."""
    ports = len(snapshot.resolved.world.ports_by_dpid.get(dpid, ())) if snapshot else 0
    if view is None or not view.is_connected:
        flows = view.confirmed.flows if view else 0
        errors, plans = (view.errors, view.plans) if view else (0, 0)
        reason = "not connected: see `ovs-vsctl show` on its host"
        return BridgeStatus(
            dpid, name, State.INACTIVE, (reason,), False, ports, flows, plans, errors
        )
    return BridgeStatus(
        dpid, name, view.state, view.reasons, True, ports, view.confirmed.flows, view.plans,
        view.errors,
    )  # fmt: skip


def with_tapped_bridge(
    status: BridgeStatus, snapshot: Snapshot | None, name: Callable[[Dpid], str]
) -> BridgeStatus:
    """The status of a bridge, and from which bridge of somebody else it gets copies."""
    attachments = snapshot.resolved.world.attachments if snapshot is not None else {}
    if status.dpid not in attachments:
        return status
    owner = name(attachments[status.dpid].owner)
    said = f"taps bridge {owner!r} (owned by somebody else)"
    return replace(status, reasons=(said, *status.reasons))


def home(resolved_session: ResolvedSession, snapshot: Snapshot) -> set[Dpid]:
    """The bridges that certainly make copies of a session: where its watched ports are."""
    return {snapshot.resolved.place(port) for port in resolved_session.watched}


def passed(
    resolved_session: ResolvedSession, snapshot: Snapshot, makers: Iterable[Dpid]
) -> set[Dpid]:
    """The bridges that copies of a session pass on their way from these bridges to tap ports."""
    world, spanning_tree = snapshot.resolved.world, snapshot.resolved.spanning_tree
    ends = {world.placements[tap.id].dpid for tap in resolved_session.taps}
    return {
        into.dpid for here in makers for end in ends for _, into in spanning_tree.exits(here, end)
    }


def _settled(
    resolved_session: ResolvedSession, snapshot: Snapshot, views: Sequence[WriterView]
) -> Mapping[PortId, ResolvedWorld]:
    """The worlds that the datapaths of the watched ports' bridges follow, by watched port.

    Bridges whose datapath does not follow the session as it is now are left out.
    """
    by_dpid = {v.dpid: v.settled for v in views if knows(v.settled, resolved_session)}
    found = {
        port.id: by_dpid.get(snapshot.resolved.place(port)) for port in resolved_session.watched
    }
    return {port: resolved for port, resolved in found.items() if resolved is not None}


def _describe(
    session: SessionId,
    snapshot: Snapshot,
    views: Sequence[WriterView],
    holders: Mapping[Dpid, str],
) -> SessionStatus:
    number = snapshot.numbers.session.get(session)
    if session in snapshot.deleting:
        return _describe_leaving(views, holders)
    why: tuple[str, ...]
    resolved_session = snapshot.resolved.sessions.get(session)
    if resolved_session is None or number is None:
        return SessionStatus(State.PENDING, ("not verified on any bridge yet",))
    if session in snapshot.stopped:
        state, why = State.STOPPED, (snapshot.stopped[session],)
    elif not resolved_session.session.enabled:
        state, why = State.INACTIVE, ("switched off by its owner",)
    elif resolved_session.refused is not None:
        state, why = State.ERROR, (str(resolved_session.refused),)
    elif not resolved_session.is_served:
        state, why = State.PENDING, resolved_session.missing + resolved_session.unknown
    else:
        return _describe_served(number, resolved_session, snapshot, views, holders)
    reasons = (*why, *_not_gone(views, holders))
    return SessionStatus(state, reasons, bridges=_held(holders))


def _describe_leaving(views: Sequence[WriterView], holders: Mapping[Dpid, str]) -> SessionStatus:
    """A session that is being deleted, and the bridges that may still have its flows."""
    away = _away(views, holders)
    reason = (
        f"being deleted: bridge {', '.join(away)} is not reachable" if away else "being deleted"
    )
    return SessionStatus(State.INACTIVE, (reason,), bridges=_held(holders))


def _held(holders: Mapping[Dpid, str]) -> tuple[BridgeShare, ...]:
    """The shares of the bridges that may still have flows of a session that is to have none."""
    return tuple(BridgeShare(d, name, State.PENDING) for d, name in sorted(holders.items()))


def _describe_served(
    number: int,
    resolved_session: ResolvedSession,
    snapshot: Snapshot,
    views: Sequence[WriterView],
    holders: Mapping[Dpid, str],
) -> SessionStatus:
    reasons = [*resolved_session.missing, *_untagged(resolved_session, snapshot)]
    shares: list[BridgeShare] = []
    serving = [view for view in views if number in view.confirmed.served]
    for view in serving:
        state = _share(number, resolved_session, view, snapshot.resolved, reasons)
        shares.append(BridgeShare(view.dpid, view.name, state))
    for view in views:  # those that carry its copies, or its packets, and make none
        if view not in serving and _is_blocked(number, view, reasons):
            shares.append(BridgeShare(view.dpid, view.name, State.DEGRADED))
    wanted = home(resolved_session, snapshot) | _absent(views, holders)
    others = wanted - {view.dpid for view in serving}
    shares += _unconfirmed(number, resolved_session, others, views, holders, reasons)
    makers = {view.dpid for view in serving} | home(resolved_session, snapshot)
    ahead = passed(resolved_session, snapshot, makers) - wanted - {view.dpid for view in serving}
    reasons += _in_doubt(resolved_session, ahead, views)
    works = any(share.state is State.ACTIVE for share in shares) or _goes_on(serving, shares)
    state = (State.DEGRADED if reasons else State.ACTIVE) if works else State.PENDING
    if resolved_session.is_adrift:  # the bridges only count its copies as lost
        state, shares = State.PENDING, [_without_copies(share) for share in shares]
    limits = snapshot.limits.get(resolved_session.session.id)
    notes = packet_limit_notes(resolved_session, limits, snapshot.resolved.world)
    said = (*reasons, *resolved_session.unknown, *notes)  # what is not known is no failure
    return SessionStatus(state, tuple(dict.fromkeys(said)), bridges=tuple(shares))


def _without_copies(share: BridgeShare) -> BridgeShare:
    """The share of a bridge that counts copies, and makes none."""
    return replace(share, state=State.PENDING) if share.state is State.ACTIVE else share


def _unconfirmed(
    number: int,
    resolved_session: ResolvedSession,
    bridges: Set[Dpid],
    views: Sequence[WriterView],
    holders: Mapping[Dpid, str],
    reasons: list[str],
) -> Iterator[BridgeShare]:
    """The shares of bridges that should make copies, or may, and are not confirmed to; appends the
    reasons.
    """
    by_dpid = {view.dpid: view for view in views}
    for dpid in sorted(bridges):
        view = by_dpid.get(dpid)
        name = holders.get(dpid, view.name if view is not None else f"{dpid:016x}")
        if view is not None and _is_uncompilable(number, resolved_session, view, reasons):
            yield BridgeShare(dpid, name, State.ERROR)
        elif view is not None and view.is_connected:
            reasons += view.reasons or (f"bridge {name} has not confirmed it yet",)
            yield BridgeShare(dpid, name, State.PENDING)
        elif dpid in holders:
            reasons.append(f"bridge {name} is not connected, and may still make copies")
            yield BridgeShare(dpid, name, State.PENDING)
        else:
            reasons.append(f"bridge {name} is not connected")


def _in_doubt(
    resolved_session: ResolvedSession, bridges: Set[Dpid], views: Sequence[WriterView]
) -> Iterator[str]:
    """Why bridges that copies pass, and that make none, may not pass them on, a sentence each."""
    by_dpid = {view.dpid: view for view in views}
    for dpid in sorted(bridges):
        view = by_dpid.get(dpid)
        if view is not None and view.is_connected:
            reasons: list[str] = []
            _is_contested(view, reasons)
            yield from reasons
            continue
        name = f"{dpid:016x}" if view is None else view.name
        if view is not None and knows(view.settled, resolved_session):
            yield (
                f"bridge {name}, by which copies go, is not connected: unless it has stopped or "
                "was changed, it passes them on as it was verified last"
            )
        else:
            yield (
                f"bridge {name}, by which copies go, is not connected and has not got the last "
                "change: copies may be lost there"
            )


def _untagged(resolved_session: ResolvedSession, snapshot: Snapshot) -> Iterator[str]:
    """Why copies or packets of a session do not cross links, a sentence each."""
    for key in snapshot.resolved.missing_link_tags(resolved_session):
        yield str(NoLinkTagLeft(key, len(VLAN_IDS)))


def _goes_on(serving: Sequence[WriterView], shares: Sequence[BridgeShare]) -> bool:
    """Whether a bridge that is degraded makes copies; ``shares`` begin with those of ``serving``.

    A bridge that is not connected keeps its flows, so it makes the copies that it has confirmed;
    one that refused a shared flow makes those that do not need it.
    """
    return any(
        share.state is State.DEGRADED and (not view.is_connected or view.confirmed.failure is None)
        for view, share in zip(serving, shares, strict=False)
    )


def _share(
    number: int,
    resolved_session: ResolvedSession,
    view: WriterView,
    resolved: ResolvedWorld,
    reasons: list[str],
) -> State:
    """The state of a session on a bridge that has flows of it; appends the reasons if degraded."""
    refusals = view.confirmed.refusals_of(number)
    if refusals:
        reasons += [f"bridge {view.name} refused it: {reason}" for reason in refusals]
        return State.ERROR
    is_blocked = _is_blocked(number, view, reasons)
    if not view.is_connected:
        reasons.append(_outlook(resolved_session, view, resolved))
        return State.DEGRADED if _has_it(resolved_session, view, resolved) else State.PENDING
    if not knows(view.confirmed.resolved, resolved_session):
        reasons.append(f"bridge {view.name} has not confirmed the last change yet")
        return State.PENDING
    if view.confirmed.failure is not None:
        reasons.append(f"bridge {view.name}: {view.confirmed.failure}")
        return State.DEGRADED
    if not knows(view.settled, resolved_session):
        reasons.append(f"the datapath of bridge {view.name} does not follow the last change yet")
        return State.PENDING
    is_altered = _is_contested(view, reasons)
    is_taken = _is_preempted(number, view, reasons)
    return State.DEGRADED if is_blocked or is_altered or is_taken else State.ACTIVE


def _has_it(resolved_session: ResolvedSession, view: WriterView, resolved: ResolvedWorld) -> bool:
    """Whether a bridge that is not connected certainly has a session as it is now."""
    session = resolved_session.session.id
    there = view.certain_of(session)
    return there is not None and resolved.has_same_session(session, there)


def _outlook(resolved_session: ResolvedSession, view: WriterView, resolved: ResolvedWorld) -> str:
    """What a bridge that is not connected does for a session that it has flows of."""
    there = view.certain_of(resolved_session.session.id)
    if there is None:
        return f"bridge {view.name} is not connected, and {UNKNOWN_VERSION}"
    if _has_it(resolved_session, view, resolved):
        return (
            f"bridge {view.name} is not connected: unless it has stopped, it copies on as it was "
            "verified last"
        )
    return (
        f"bridge {view.name} is not connected, and has not got the last change: unless it has "
        "stopped, it goes on with the former version of the session"
        f"{_former_collector(resolved_session, there)}"
    )


def _former_collector(resolved_session: ResolvedSession, there: ResolvedWorld) -> str:
    """The words for the collector that a session had, if that was another one."""
    before, now = _collector_in(there, resolved_session), resolved_session.collector
    if before is None or before == now:
        return ""
    if now is not None and before.name == now.name:
        named = (there.world.port_by_id.get(PortId(str(sensor))) for sensor in before.sensors)
        names = (
            str(sensor) if port is None else port.name
            for sensor, port in zip(before.sensors, named, strict=True)
        )
        return f", and copies to collector {before.name!r} as it was: {', '.join(names)}"
    return f", and copies to collector {before.name!r}"


def _collector_in(there: ResolvedWorld, resolved_session: ResolvedSession) -> Collector | None:
    """The collector that a session had in another world."""
    before = there.sessions.get(resolved_session.session.id)
    return None if before is None else before.collector


def _missed_collector(
    answer: Answer, resolved_session: ResolvedSession, view: WriterView
) -> str | None:
    """The collector that gets no copy, because a bridge sends it to former sensors only."""
    there = view.certain_of(resolved_session.session.id)
    if there is None or view.dpid != answer.outdated:
        return None
    before, now = _collector_in(there, resolved_session), resolved_session.collector
    if before is None or now is None:
        return None
    is_same_way = before.delivery == now.delivery
    return None if is_same_way and set(before.sensors) & set(now.sensors) else now.name


def _is_contested(view: WriterView, reasons: list[str]) -> bool:
    """Whether somebody else keeps changing the flows of a bridge; appends the reason."""
    if view.is_contested:
        reasons.append(f"copies may be missing or wrong: {contested_reason(view.name)}")
    return view.is_contested


def _is_preempted(number: int, view: WriterView, reasons: list[str]) -> bool:
    """Whether flows of others may take a session's packets; appends the reason."""
    if number not in view.confirmed.preempted:
        return False
    reasons.append(
        f"bridge {view.name} has flows that are not ours and come before them: they may keep its "
        "packets from being copied, or send them to others; see "
        f"`ovs-ofctl -O OpenFlow13 dump-flows {view.name}`"
    )
    return True


def _is_uncompilable(
    number: int, resolved_session: ResolvedSession, view: WriterView, reasons: list[str]
) -> bool:
    """Whether a connected bridge has no flows of a session as it is now; appends the reason."""
    why = view.confirmed.uncompilable.get(number)
    if why is None or not view.is_connected or not knows(view.confirmed.resolved, resolved_session):
        return False
    reasons.append(
        f"bridge {view.name} makes no copies of it, because its flows cannot be compiled: {why}"
    )
    return True


def _is_blocked(number: int, view: WriterView, reasons: list[str]) -> bool:
    """Whether a bridge refused a flow that a session needs; appends the reasons."""
    found = view.confirmed.blockers_of(number)
    reasons += [f"bridge {view.name} refused a flow that it needs: {reason}" for reason in found]
    return bool(found)


def _away(views: Sequence[WriterView], holders: Mapping[Dpid, str]) -> list[str]:
    """The names of the bridges that may be making copies and are not connected."""
    return [holders[dpid] for dpid in sorted(_absent(views, holders))]


def _absent(views: Sequence[WriterView], holders: Mapping[Dpid, str]) -> set[Dpid]:
    """The bridges that may be making copies and are not connected."""
    return holders.keys() - {view.dpid for view in views if view.is_connected}


def _not_gone(views: Sequence[WriterView], holders: Mapping[Dpid, str]) -> Iterator[str]:
    """The reasons why a session that is stopped or switched off may still have copies."""
    away = _away(views, holders)
    for _, name in sorted(holders.items()):
        if name in away:
            yield f"bridge {name} is not reachable, and may still make copies"
        else:
            yield f"bridge {name} has not confirmed yet that its flows are gone"


def explained(
    answer: Answer, snapshot: Snapshot, views: Sequence[WriterView], holders: Mapping[Dpid, str]
) -> Answer:
    """An answer, with what is known of the session and of the bridge that would copy the packet.

    Answers come from the flows that are wanted, or that a bridge which is not connected was told
    of last. ``holders`` are the bridges that may be making copies of the session.
    """
    session, resolved_session = answer.session, snapshot.resolved.sessions[answer.session.id]
    number = snapshot.numbers.session[session.id]
    if session.enabled and resolved_session.is_adrift:
        return answer
    if not session.enabled or not resolved_session.is_served:
        said = answer.sentence
        if session.id in snapshot.stopped:
            said = f"not copied: the session is stopped: {snapshot.stopped[session.id]}"
        return replace(answer, sentence="; ".join((said, *_not_gone(views, holders))))
    maker = answer.bridge if answer.bridge is not None else answer.outdated
    if maker is None:
        return _said(answer, _unknown_versions(number, resolved_session, snapshot, views, holders))
    view = next((view for view in views if view.dpid == maker), None)
    reasons: list[str] = []
    is_served = view is not None and number in view.confirmed.served
    if view is None or not (view.is_connected or is_served):
        name = holders.get(maker, f"{maker:016x}" if view is None else view.name)
        if maker not in holders:
            said = f"not copied: bridge {name} is not connected, and has not got it"
            return Answer(session, False, said)
        reasons = [f"bridge {name} is not connected, and {UNKNOWN_VERSION}"]
    elif _is_uncompilable(number, resolved_session, view, reasons):
        return Answer(session, False, f"not copied: {'; '.join(reasons)}")
    elif not is_served:
        reasons = [f"bridge {view.name} has not confirmed it yet"]
    elif _share(number, resolved_session, view, snapshot.resolved, reasons) is State.ERROR:
        return Answer(session, False, f"not copied: {'; '.join(reasons)}")
    elif answer.is_copied and (to := _missed_collector(answer, resolved_session, view)):
        said = f"not copied: no copy goes to collector {to!r}"
        return Answer(session, False, f"{said}: {'; '.join(reasons)}")
    other = next((v for v in views if v.dpid == answer.outdated != maker), None)
    if other is not None:
        reasons.append(_outlook(resolved_session, other, snapshot.resolved))
    if answer.is_copied:
        ahead = passed(resolved_session, snapshot, [maker]) - {maker}
        reasons += _in_doubt(resolved_session, ahead, views)
    return _said(answer, reasons)


def _said(answer: Answer, reasons: Iterable[str]) -> Answer:
    """An answer, and more reasons."""
    more = "; ".join(reasons)
    between = "; " if ":" in answer.sentence else ": "
    return replace(answer, sentence=f"{answer.sentence}{between}{more}") if more else answer


def _unknown_versions(
    number: int,
    resolved_session: ResolvedSession,
    snapshot: Snapshot,
    views: Sequence[WriterView],
    holders: Mapping[Dpid, str],
) -> Iterator[str]:
    """The bridges that may copy what the session does not copy now, a sentence each."""
    by_dpid = {view.dpid: view for view in views}
    for dpid in sorted(_absent(views, holders)):
        view = by_dpid.get(dpid)
        if view is None or number not in view.confirmed.served:
            yield f"bridge {holders[dpid]} is not connected, and {UNKNOWN_VERSION}"
        elif view.certain_of(resolved_session.session.id) is None:
            yield _outlook(resolved_session, view, snapshot.resolved)


def leaving(session: Session, views: Sequence[WriterView], holders: Mapping[Dpid, str]) -> Answer:
    """The answer for a session that is being deleted; ``holders`` may still be making copies."""
    said = ("not copied: the session is being deleted", *_not_gone(views, holders))
    return Answer(session, False, "; ".join(said))


def with_unknown_bridges(status: SessionStatus, notes: BridgeNotes) -> SessionStatus:
    """A status, and what cannot be seen of the bridges that make copies."""
    if status.state not in (State.ACTIVE, State.DEGRADED):
        return status
    making = (b for b in status.bridges if b.state is not State.INACTIVE)
    unknown = [why for b in making for why in notes.unknowns_of(b.dpid, b.bridge)]
    return replace(status, reasons=tuple(dict.fromkeys((*status.reasons, *unknown))))


def with_stale_bridges(
    status: SessionStatus,
    snapshot: Snapshot,
    session: SessionId,
    stale: Mapping[Dpid, str],
    name: Callable[[Dpid], str],
) -> SessionStatus:
    """A status, and the bridges of which something may have changed that nobody has reported.

    ``stale`` are the bridges whose database does not answer. A session that copies is not degraded
    by that: what is known is that its copies arrived.
    """
    if not stale or status.state not in (State.ACTIVE, State.PENDING, State.DEGRADED):
        return status
    found = sorted(stale.keys() & bridges_of(session, snapshot))
    unknown = [stale_sentence(name(dpid), stale[dpid]) for dpid in found]
    return replace(status, reasons=tuple(dict.fromkeys((*status.reasons, *unknown))))


def stale_sentence(bridge: str, database: str) -> str:
    """What is not seen of a bridge while its database does not answer."""
    return (
        f"unknown: database {database} does not answer, so what has changed at the ports of bridge "
        f"{bridge!r} cannot be seen: they count as they were reported last"
    )


def bridges_of(session: SessionId, snapshot: Snapshot) -> set[Dpid]:
    """The bridges of a session's source ports and tap ports, and those between them."""
    resolved_session = snapshot.resolved.sessions.get(session)
    if resolved_session is None:
        return set()
    listed = (
        snapshot.resolved.world.placements.get(port)
        for port in resolved_session.session.source.ports
    )
    here = home(resolved_session, snapshot) | {place.dpid for place in listed if place is not None}
    here |= {dpid for dpid, _ in missing_tunnels(snapshot, session)}
    there = {snapshot.resolved.place(tap) for tap in resolved_session.taps}
    return here | there | passed(resolved_session, snapshot, here)


def with_notes(status: BridgeStatus, notes: BridgeNotes, stale: Mapping[Dpid, str]) -> BridgeStatus:
    """The status of a bridge, and what its database says of it, or cannot say.

    ``stale`` are the bridges whose database does not answer.
    """
    if status.state not in (State.ACTIVE, State.DEGRADED):
        return status
    troubles = tuple(notes.troubles_of(status.dpid, status.name))
    unknown = tuple(notes.unknowns_of(status.dpid, status.name))
    if status.dpid in stale:
        unknown = (*unknown, stale_sentence(status.name, stale[status.dpid]))
    state = State.DEGRADED if troubles else status.state
    return replace(status, state=state, reasons=(*status.reasons, *troubles, *unknown))


def with_tunnels(
    status: SessionStatus,
    snapshot: Snapshot,
    session: SessionId,
    tunnels: Tunnelling,
    name: Callable[[Dpid], str],
) -> SessionStatus:
    """A status, and why bridges of its sources have no port for its tunnel."""
    if status.state not in (State.PENDING, State.DEGRADED):
        return status
    missing = missing_tunnels(snapshot, session)
    why = [tunnels.why_missing(dpid, kind, name(dpid)) for dpid, kind in missing]
    return replace(status, reasons=tuple(dict.fromkeys((*status.reasons, *why))))


def with_mirrors(
    status: SessionStatus,
    snapshot: Snapshot,
    session: SessionId,
    mirrors: Mirroring,
    name: Callable[[Dpid], str],
) -> SessionStatus:
    """A status, and why Mirrors that the session needs are not made."""
    resolved_session = snapshot.resolved.sessions.get(session)
    if resolved_session is None or status.state not in (State.PENDING, State.DEGRADED):
        return status
    missing = [use for use in resolved_session.mirrors if use.made != use.wanted]
    known = {**mirrors.mirror_problems(), **crowded_out(snapshot)} if missing else {}
    why = [
        known.get((use.dpid, use.wanted))
        or f"the Mirror for tap bridge {name(use.dpid)} is being made"
        for use in missing
    ]
    return replace(status, reasons=tuple(dict.fromkeys((*status.reasons, *why))))


def with_doubts(
    status: SessionStatus, snapshot: Snapshot, session: SessionId, doubts: Doubting
) -> SessionStatus:
    """A status, and what several peers claim of its ports and bridges: it is not certain."""
    if status.state not in (State.ACTIVE, State.PENDING, State.DEGRADED):
        return status
    making = (share for share in status.bridges if share.state is not State.INACTIVE)
    found = [s for share in making for s in doubts.of_bridge(share.dpid)]
    by_port, world = doubts.of_ports(), snapshot.resolved.world
    wanted = world.session_by_id.get(session)
    if by_port and wanted is not None:
        collector = world.collector_by_id.get(wanted.collector)
        sensors = collector.sensors if collector is not None else ()
        watched = (port.id for port in watched_by(wanted, world.workloads))
        found += [by_port[p] for p in (*watched, *sensors) if isinstance(p, str) and p in by_port]
    if not found:
        return status
    state = State.DEGRADED if status.state is State.ACTIVE else status.state
    return replace(status, state=state, reasons=tuple(dict.fromkeys((*status.reasons, *found))))


def with_undelivered(
    status: SessionStatus, snapshot: Snapshot, session: SessionId, links_down: Set[Placement]
) -> SessionStatus:
    """A status, and which packets are copied as received although a watched port does not get them.

    Every port of a list is expected to run; of a network, or of those with a label, some may be
    off. The flows do not follow the links of workloads, which go down and come up as these do.
    """
    resolved_session = snapshot.resolved.sessions.get(session)
    if (
        resolved_session is None
        or status.state not in (State.ACTIVE, State.DEGRADED)
        or not resolved_session.session.direction.is_ingress
    ):
        return status
    watched, world = resolved_session.watched, snapshot.resolved.world
    off, state = without_link(watched, world, links_down), status.state
    if off and resolved_session.session.source.kind is SourceKind.PORT:
        state = State.DEGRADED
    found = (*filter(None, [off]), *undelivered(watched, world))
    return replace(status, state=state, reasons=tuple(dict.fromkeys((*status.reasons, *found))))


def with_bridge_doubts(status: BridgeStatus, doubts: tuple[str, ...]) -> BridgeStatus:
    """The status of a bridge, and who else claims to be it, or to speak for it."""
    if not doubts:
        return status
    state = State.DEGRADED if status.state is State.ACTIVE else status.state
    return replace(status, state=state, reasons=tuple(dict.fromkeys((*status.reasons, *doubts))))


def missing_tunnels(snapshot: Snapshot, session: SessionId) -> Iterator[tuple[Dpid, TunnelKind]]:
    """The bridges of a session's source ports that lack a port for its tunnels, and its kind."""
    world = snapshot.resolved.world
    wanted = world.session_by_id.get(session)
    collector = world.collector_by_id.get(wanted.collector) if wanted else None
    if wanted is None or collector is None or not collector.is_tunnelled or not wanted.enabled:
        return
    placed = (world.placements.get(port.id) for port in watched_by(wanted, world.workloads))
    for dpid in sorted({place.dpid for place in placed if place is not None}):
        kinds = (world.tunnel_kind(dpid, collector.delivery, a) for a in collector.addresses)
        for kind in dict.fromkeys(kinds):
            if (dpid, kind) not in world.tunnels:
                yield dpid, kind
