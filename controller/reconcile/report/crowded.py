"""Says where a packet may need more outputs than a megaflow of the kernel's datapath has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from controller.reconcile.snapshot import Snapshot
from controller.status import BridgeStatus, SessionStatus
from flows.model import Dpid, NetworkId, SessionId
from flows.resolve import ResolvedWorld


def with_crowded_networks(
    status: SessionStatus, snapshot: Snapshot, session: SessionId, name: Callable[[Dpid], str]
) -> SessionStatus:
    """A status, and where packets that a session copies may need too many outputs.

    That is a note: copies are made all the same.
    """
    crowded = snapshot.resolved.crowded
    resolved_session = snapshot.resolved.sessions.get(session)
    if not crowded or resolved_session is None or not resolved_session.is_served:
        return status
    here = {(snapshot.resolved.place(port), port.network) for port in resolved_session.watched}
    notes = [
        sentence
        for dpid in sorted(crowded)
        for network, sentence in _crowd_sentences(dpid, name(dpid), snapshot.resolved)
        if (dpid, network) in here
    ]
    return replace(status, reasons=tuple(dict.fromkeys((*status.reasons, *notes))))


def with_crowded_bridge(status: BridgeStatus, snapshot: Snapshot | None) -> BridgeStatus:
    """The status of a bridge, and the networks whose packets may need too many outputs there."""
    if snapshot is None or status.dpid not in snapshot.resolved.crowded:
        return status
    notes = [note for _, note in _crowd_sentences(status.dpid, status.name, snapshot.resolved)]
    return replace(status, reasons=(*status.reasons, *notes))


def _crowd_sentences(
    dpid: Dpid, bridge: str, resolved: ResolvedWorld
) -> Iterator[tuple[NetworkId, str]]:
    for crowd in resolved.crowded[dpid]:
        name = resolved.world.network_by_id[crowd.network].name
        yield crowd.network, crowd.sentence(name, bridge)
