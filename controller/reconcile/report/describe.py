"""How sessions and bridges stand, worked out from what was verified on the switches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.status.starvation import with_takers
from controller.reconcile.bridge.writer import BridgeWriter
from controller.reconcile.snapshot import Snapshot
from controller.reconcile.bridge.drift import contested
from controller.southbound.switch import refusals
from controller.status.values import BridgeShare, BridgeStatus, SessionStatus, State
from controller.status.session_counters import Tally
from controller.reconcile.bridge.confirmed import Verified
from flows.compile import Standing, Survey
from flows.errors import NoLinkTagLeft
from flows.model.session import Dpid, PortId, SessionId
from flows.pipeline.tables import LINK_TAGS


@dataclass(frozen=True)
class WriterView:
    """What is known of one bridge that is, or was, connected."""

    dpid: Dpid
    name: str
    verified: Verified
    settled: Survey | None
    state: State
    reasons: tuple[str, ...]
    plans: int
    errors: int
    tally: Tally
    is_connected: bool

    @staticmethod
    def of(writer: BridgeWriter, *, is_connected: bool) -> WriterView:
        """The view of a bridge through its writer."""
        state, reasons = _state_of(writer)
        return WriterView(
            writer.dpid, writer.switch.name, writer.verified, writer.settled.survey, state,
            reasons, writer.plans, writer.errors, writer.tally, is_connected,
        )  # fmt: skip


def describe_session(
    session: SessionId,
    snapshot: Snapshot | None,
    views: Sequence[WriterView],
    problem: str | None,
    holders: Mapping[Dpid, str],
) -> SessionStatus:
    """The standing of one session, from the world and from what each bridge has verified.

    ``holders`` are the names of the bridges that may be making copies of it.
    """
    if snapshot is None:
        return SessionStatus(State.PENDING, (problem or "the world is not known yet",))
    status = _describe(session, snapshot, views, holders)
    standing = snapshot.survey.standings.get(session)
    if standing is None or standing.collector is None:
        return status
    status = replace(status, largest_frame=snapshot.survey.limit_of(standing.session))
    return with_takers(status, standing, _settled(standing, snapshot, views))


def describe_bridge(
    dpid: Dpid, name: str, view: WriterView | None, snapshot: Snapshot | None
) -> BridgeStatus:
    """The standing of one bridge."""
    ports = len(snapshot.survey.world.ports_by_dpid.get(dpid, ())) if snapshot else 0
    if view is None or not view.is_connected:
        flows = view.verified.flows if view else 0
        errors, plans = (view.errors, view.plans) if view else (0, 0)
        reason = "not connected: see `ovs-vsctl show` on its host"
        return BridgeStatus(
            dpid, name, State.INACTIVE, (reason,), False, ports, flows, plans, errors
        )
    return BridgeStatus(
        dpid, name, view.state, view.reasons, True, ports, view.verified.flows, view.plans,
        view.errors,
    )  # fmt: skip


def home(standing: Standing, snapshot: Snapshot) -> set[Dpid]:
    """The bridges that certainly make copies of a session: where its watched ports are."""
    return {snapshot.survey.place(port) for port in standing.watched}


def _state_of(writer: BridgeWriter) -> tuple[State, tuple[str, ...]]:
    """The standing of the bridge, with reasons."""
    seen = writer.verified
    if seen.failure is not None:
        return (State.DEGRADED if writer.is_ours else State.INACTIVE), (seen.failure,)
    if not writer.is_ready:
        return State.PENDING, ("nothing is written to it before the inventory is known",)
    if seen.version == 0:
        return State.PENDING, ("its flows are not verified yet",)
    reasons = refusals(seen.rejected)
    if seen.foreign:
        reasons.append(
            f"{seen.foreign} flows are not ours: they may break isolation; see "
            f"`ovs-ofctl -O OpenFlow13 dump-flows {writer.switch.name}`"
        )
    if writer.drifts.go_on:
        reasons.append(contested(writer.switch.name))
    return (State.DEGRADED if reasons else State.ACTIVE), tuple(reasons)


def _settled(
    standing: Standing, snapshot: Snapshot, views: Sequence[WriterView]
) -> Mapping[PortId, Survey]:
    """What the data path of each watched port's bridge follows, where it knows the session."""
    by_dpid = {v.dpid: v.settled for v in views if knows(v.settled, standing)}
    found = {port.id: by_dpid.get(snapshot.survey.place(port)) for port in standing.watched}
    return {port: survey for port, survey in found.items() if survey is not None}


def _describe(
    session: SessionId,
    snapshot: Snapshot,
    views: Sequence[WriterView],
    holders: Mapping[Dpid, str],
) -> SessionStatus:
    number = snapshot.numbers.session.get(session)
    if session in snapshot.deleting:
        return _describe_leaving(views, holders)
    standing = snapshot.survey.standings.get(session)
    if standing is None or number is None:
        return SessionStatus(State.PENDING, ("not verified on any bridge yet",))
    if session in snapshot.stopped:
        reasons = (snapshot.stopped[session], *_not_gone(views, holders))
        return SessionStatus(State.STOPPED, reasons)
    if not standing.session.enabled:
        return SessionStatus(State.INACTIVE, ("switched off by its owner",))
    if standing.refused is not None:
        return SessionStatus(State.ERROR, (str(standing.refused),))
    return _describe_served(number, standing, snapshot, views)


def _describe_leaving(views: Sequence[WriterView], holders: Mapping[Dpid, str]) -> SessionStatus:
    """A session that is being deleted, and the bridges that may still have its flows."""
    away = _away(views, holders)
    reason = (
        f"being deleted: bridge {', '.join(away)} is not reachable" if away else "being deleted"
    )
    shares = tuple(BridgeShare(d, name, State.PENDING) for d, name in sorted(holders.items()))
    return SessionStatus(State.INACTIVE, (reason,), bridges=shares)


def _describe_served(
    number: int, standing: Standing, snapshot: Snapshot, views: Sequence[WriterView]
) -> SessionStatus:
    if not standing.is_served:
        return SessionStatus(State.PENDING, standing.missing)
    reasons = [*standing.missing]
    reasons += [
        str(NoLinkTagLeft(key, len(LINK_TAGS))) for key in snapshot.survey.uncarried(standing)
    ]
    shares: list[BridgeShare] = []
    by_dpid = {view.dpid: view for view in views}
    serving = [view for view in views if number in view.verified.served]
    for view in serving:
        state = _share(number, standing, view, reasons)
        shares.append(BridgeShare(view.dpid, view.name, state))
    for view in views:  # those that carry its copies, or its packets, and make none
        if view not in serving and _hinders(number, view, reasons):
            shares.append(BridgeShare(view.dpid, view.name, State.DEGRADED))
    for dpid in sorted(home(standing, snapshot)):
        view_here = by_dpid.get(dpid)
        if view_here in serving:
            continue
        if view_here is None or not view_here.is_connected:
            name = view_here.name if view_here is not None else f"{dpid:016x}"
            reasons.append(f"bridge {name} is not connected")
        else:
            shares.append(BridgeShare(dpid, view_here.name, State.PENDING))
            reasons += view_here.reasons or (f"bridge {view_here.name} has not confirmed it yet",)
    # what an away bridge was verified to do, it does: its flows stay when we are gone; and one that
    # refused something that it shares with others does the rest
    goes_on = any(
        share.state is State.DEGRADED and (not view.is_connected or view.verified.failure is None)
        for view, share in zip(serving, shares, strict=False)
    )
    works = goes_on or any(share.state is State.ACTIVE for share in shares)
    state = State.PENDING
    if works:
        state = State.DEGRADED if reasons else State.ACTIVE
    return SessionStatus(state, tuple(dict.fromkeys(reasons)), bridges=tuple(shares))


def _share(number: int, standing: Standing, view: WriterView, reasons: list[str]) -> State:
    """What one bridge does for a session that it has flows of; adds the reasons why not all."""
    refusals = view.verified.refusals_of(number)
    if refusals:
        reasons += [f"bridge {view.name} refused it: {reason}" for reason in refusals]
        return State.ERROR
    is_hindered = _hinders(number, view, reasons)
    if not view.is_connected:
        if not knows(view.settled, standing):
            reasons.append(f"bridge {view.name} is not connected, and has not got the last change")
            return State.PENDING
        words = "unless it has stopped, it copies on as it was verified last"
        reasons.append(f"bridge {view.name} is not connected: {words}")
        return State.DEGRADED
    if not knows(view.verified.survey, standing):
        reasons.append(f"bridge {view.name} has not confirmed the last change yet")
        return State.PENDING
    if view.verified.failure is not None:
        reasons.append(f"bridge {view.name}: {view.verified.failure}")
        return State.DEGRADED
    if not knows(view.settled, standing):
        reasons.append(f"the data path of bridge {view.name} does not follow the last change yet")
        return State.PENDING
    return State.DEGRADED if is_hindered else State.ACTIVE


def _hinders(number: int, view: WriterView, reasons: list[str]) -> bool:
    """Whether a bridge refused what a session shares with others; adds why."""
    found = view.verified.hindrances_of(number)
    reasons += [f"bridge {view.name} refused a flow that it needs: {reason}" for reason in found]
    return bool(found)


def knows(survey: Survey | None, standing: Standing) -> bool:
    """Whether a survey has the session stand as it does now."""
    return survey is not None and survey.standings.get(standing.session.id) == standing


def _away(views: Sequence[WriterView], holders: Mapping[Dpid, str]) -> list[str]:
    """The bridges that may be making copies and cannot be asked now."""
    connected = {view.dpid for view in views if view.is_connected}
    return [name for dpid, name in sorted(holders.items()) if dpid not in connected]


def _not_gone(views: Sequence[WriterView], holders: Mapping[Dpid, str]) -> Iterator[str]:
    """Why copies may still be made of a session that should have none."""
    away = _away(views, holders)
    for _, name in sorted(holders.items()):
        if name in away:
            yield f"bridge {name} is not reachable, and may still make copies"
        else:
            yield f"bridge {name} has not confirmed yet that its flows are gone"
