"""Copies that were made, and wanted ones that were not, or not whole, in the words of a status."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Set
from dataclasses import replace

from controller.status.values import (
    BridgeShare,
    BridgeStatus,
    Copies,
    Losses,
    Measure,
    SessionStatus,
    State,
)
from controller.status.session_counters import Tallies, Tally
from flows.model.session import Dpid


def with_counts(
    status: SessionStatus, tallies: Tallies, number: int,
    name_of: Callable[[Dpid], str], holders: Container[Dpid],
) -> SessionStatus:  # fmt: skip
    """The standing of the session with this number, and what each bridge has counted of it.

    A bridge that has counted and has no share shows up with one: it is ``pending`` if it is one of
    ``holders``, which may still be making copies. What was lost lately degrades the session.
    """
    counted = tallies.by_bridge(number)
    shares = {share.dpid: share for share in status.bridges}
    for dpid in sorted(counted.keys() - shares.keys()):
        state = State.PENDING if dpid in holders else State.INACTIVE
        shares[dpid] = BridgeShare(dpid, name_of(dpid), state)
    for dpid, (copies, lost) in counted.items():
        shares[dpid] = replace(
            shares[dpid], copies=copies, truncated=lost.truncated, skipped=lost.by_reason
        )
    losses = sum((lost for _, lost in counted.values()), Losses())
    status = replace(
        status,
        copies=sum((copies for copies, _ in counted.values()), Copies()),
        truncated=losses.truncated,
        skipped=losses.by_reason,
        bridges=tuple(shares.values()),
    )
    return _with_losses(status, losses, tallies.lately(number))


def with_shed(status: BridgeStatus, tally: Tally) -> BridgeStatus:
    """The standing of a bridge with the copies that its cap has cost."""
    status = replace(status, shed=tally.bridge_shed)
    if Measure.SHED not in tally.lately(0) or status.state not in (State.ACTIVE, State.DEGRADED):
        return status
    reason = (
        f"its sessions want more copies than `bridge_rate` of [bridges] allows: {status.shed} "
        "were left out"
    )
    return replace(status, state=State.DEGRADED, reasons=(*status.reasons, reason))


def _with_losses(status: SessionStatus, losses: Losses, lately: Set[Measure]) -> SessionStatus:
    if not lately or status.state not in (State.ACTIVE, State.DEGRADED):
        return status
    reasons = (*status.reasons, *_sentences(status, losses, lately))
    return replace(status, state=State.DEGRADED, reasons=reasons)


def _sentences(status: SessionStatus, losses: Losses, lately: Set[Measure]) -> Iterator[str]:
    path = "the path to its sensors carries"
    if status.largest_frame is not None:
        path += f" frames of at most {status.largest_frame} bytes"
    else:
        path += " no longer ones"
    if Measure.TRUNCATED in lately:
        yield f"mtu: {losses.truncated} copies were cut, because {path}"
    if Measure.SKIPPED in lately:
        yield f"mtu: {losses.skipped} copies were left out, because {path}"
    if Measure.SHED in lately:
        yield f"rate: {losses.shed} copies were left out, because they exceeded its max_rate"
