"""Says what is known of segmenting pairs to the sessions whose copies pass them, and of bridges."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from controller.reconcile.snapshot import Snapshot
from controller.status import BridgeStatus, SessionStatus, State
from flows.compile import is_segmented
from flows.model import Datapath, Dpid, SessionId
from flows.resolve import BridgeView, unseen_segmenter, why_not_segmented

Lately = Callable[[Dpid, str], Iterable[str]]
"""What the pair of a bridge, by id and name, has lost lately, a sentence each."""


def with_pairs(
    status: SessionStatus, snapshot: Snapshot, session: SessionId, lately: Lately
) -> SessionStatus:
    """A status, and what the segmenting pairs that its copies pass lose, or may lose unseen.

    What they lose degrades the session; what is not known is no failure.
    """
    if status.state not in (State.ACTIVE, State.DEGRADED):
        return status
    pairs, resolved = snapshot.resolved.world.segmenters, snapshot.resolved
    resolved_session = resolved.sessions.get(session)
    if not pairs or resolved_session is None or resolved_session.collector is None:
        return status
    lost: list[str] = []
    unknown: list[str] = []
    for share in status.bridges:
        if share.state is State.INACTIVE or share.dpid not in pairs:
            continue
        if is_segmented(BridgeView(share.dpid, resolved), resolved_session):
            lost += lately(share.dpid, share.bridge)
            unknown += unseen_segmenter(share.bridge, pairs[share.dpid])
    if not lost and not unknown:
        return status
    state = State.DEGRADED if lost else status.state
    reasons = tuple(dict.fromkeys((*status.reasons, *lost, *unknown)))
    return replace(status, state=state, reasons=reasons)


def with_bridge_pair(
    status: BridgeStatus, snapshot: Snapshot | None, lately: Lately
) -> BridgeStatus:
    """The status of a bridge, and what is known of its segmenting pair."""
    if snapshot is None or status.state not in (State.ACTIVE, State.DEGRADED):
        return status
    world = snapshot.resolved.world
    pair = world.segmenters.get(status.dpid)
    if pair is None or world.datapaths.get(status.dpid) is not Datapath.KERNEL:
        return status
    lost = list(lately(status.dpid, status.name))
    if not pair.state.is_usable:
        lost.append(f"it truncates no copies: {why_not_segmented(status.dpid, status.name, world)}")
    state = State.DEGRADED if lost else status.state
    unknown = unseen_segmenter(status.name, pair)
    return replace(status, state=state, reasons=(*status.reasons, *lost, *unknown))
