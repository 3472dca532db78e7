"""Adds starvation to a status: other exclusive sessions take every packet of a port first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

from controller.status.values import SessionStatus, State
from flows.model import Direction, Port, PortId, Session
from flows.resolve import ResolvedSession, ResolvedWorld

NAMED_MAX = 3
"""Ports that one sentence names, at most."""
HOW = {Direction.BOTH: "of", Direction.EGRESS: "sent by", Direction.INGRESS: "received by"}

TakerByPort = Mapping[Port, Mapping[Direction, Session]]
"""The session that takes every packet of a port, by direction."""


def with_starvation(
    status: SessionStatus,
    resolved_session: ResolvedSession,
    resolved_worlds: Mapping[PortId, ResolvedWorld],
    failed: Mapping[PortId, Set[int]],
) -> SessionStatus:
    """The status with a sentence for each session that starves this one at some of its ports.

    If it is starved at all of its ports it is degraded. ``resolved_worlds`` are those that the
    datapaths follow, by watched port, and ``failed`` the numbers of the sessions whose flows these
    bridges cannot have.
    """
    if not resolved_session.is_exclusive or status.state not in (State.ACTIVE, State.DEGRADED):
        return status
    found = {
        port: resolved_worlds[port.id].starving_sessions(
            resolved_session, port, failed.get(port.id, frozenset())
        )
        for port in resolved_session.watched
        if port.id in resolved_worlds
    }
    taken = {port: by_direction for port, by_direction in found.items() if by_direction}
    if not taken:
        return status
    state = State.DEGRADED if len(taken) == len(resolved_session.watched) else status.state
    reasons = (*status.reasons, *_sentences(resolved_session.session, taken))
    return replace(status, state=state, reasons=reasons)


def _sentences(own: Session, taken: TakerByPort) -> Iterator[str]:
    """A sentence for each session that takes packets, and for each direction that it takes."""
    found: defaultdict[tuple[str, Direction], list[str]] = defaultdict(list)
    for port, by_direction in taken.items():
        directions: defaultdict[str, list[Direction]] = defaultdict(list)
        for direction, taker in by_direction.items():
            directions[_who(own, taker)].append(direction)
        for who, those in directions.items():
            what = those[0] if len(those) == 1 else Direction.BOTH
            found[who, what].append(port.name)
    for (who, what), ports in found.items():
        yield f"{who} takes every packet {HOW[what]} {_ports(ports)} before it"


def _who(own: Session, taker: Session) -> str:
    """The name of a session; sessions of other tenants are not named."""
    if taker.tenant != own.tenant:
        return "an exclusive session of another tenant"
    return f"session {taker.name!r} (number {taker.number})"


def _ports(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names[:NAMED_MAX]]
    if len(names) > NAMED_MAX:
        return f"{len(names)} ports ({', '.join(quoted)}, ...)"
    if len(names) == 1:
        return f"port {quoted[0]}"
    return f"ports {', '.join(quoted[:-1])} and {quoted[-1]}"
