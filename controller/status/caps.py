"""The caps on copies of one session on a bridge, and what they have shed, in words."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from controller.status.session_counters import SessionCounters
from flows.model import Rate, Session
from flows.resolve import ResolvedWorld


class CapKind(Enum):
    """What a cap is for."""

    SESSION = "its max_rate"
    """The session's own."""
    PORT = "what ports on the way send"
    """Keeps copies below what a slow tap port, link or way of tunnels sends."""
    BRIDGE = "`bridge_rate` of [bridges]"
    """All copies of the bridge together."""


Cap = tuple[CapKind, Rate]


def caps_on(session: Session, resolved: ResolvedWorld) -> tuple[Cap, ...]:
    """The caps that copies of a session pass on each bridge, in the order of the pipeline."""
    share, own = resolved.port_caps.get(session.id), session.max_rate
    found: list[Cap] = []
    if share is not None:  # it keeps to the session's own cap as well
        found.append((CapKind.PORT, share))
    elif own is not None:
        found.append((CapKind.SESSION, own))
    if resolved.world.bridge_rate is not None:
        found.append((CapKind.BRIDGE, resolved.world.bridge_rate))
    return tuple(found)


def words_of_caps(caps: Sequence[Cap], number: int, session_counters: SessionCounters) -> str:
    """What the caps may leave out, and what they have left out so far on one bridge.

    ``number`` is that of the session.
    """
    losses = session_counters.losses(number)
    made, lost = session_counters.made(number).packets, losses.shed + losses.port_shed
    parts = []
    for kind, rate in caps:
        if kind is CapKind.BRIDGE:
            shed = f"{session_counters.bridge_shed} copies of all sessions were shed here so far"
        else:
            shed = f"{lost} of {made + lost} copies were shed here so far"
        parts.append(f"only while copies stay below {rate} ({kind.value}): {shed}")
    return "; ".join(parts)
