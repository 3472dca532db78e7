"""Wanted copies that were not made, or not whole, in the words of a status."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace

from controller.status import BridgeStatus, Losses, Measure, SessionStatus, State
from controller.tally import Tallies, Tally


def with_losses(status: SessionStatus, tallies: Tallies, number: int) -> SessionStatus:
    """The standing of the session with this number, and what it lost; lately, that degrades it."""
    losses, lately = tallies.losses(number), tallies.lately(number)
    status = replace(status, truncated=losses.truncated, skipped=losses.by_reason)
    if not lately or status.state not in (State.ACTIVE, State.DEGRADED):
        return status
    reasons = (*status.reasons, *_sentences(status, losses, lately))
    return replace(status, state=State.DEGRADED, reasons=reasons)


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
