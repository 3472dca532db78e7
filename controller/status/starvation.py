"""That others take every packet before an exclusive session, in the words of a status."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from controller.status.values import SessionStatus, State
from flows.compile import Standing, Survey
from flows.resolve.beaten import takers
from flows.model.session import Direction, Port, PortId, Session

NAMED_MAX = 3
"""So many ports are named in one sentence."""
HOW = {Direction.BOTH: "of", Direction.EGRESS: "sent by", Direction.INGRESS: "received by"}

Taken = Mapping[Port, Mapping[Direction, Session]]
"""Who takes every packet of a port, by direction."""


def with_takers(
    status: SessionStatus, standing: Standing, surveys: Mapping[PortId, Survey]
) -> SessionStatus:
    """The standing of a session, and who leaves nothing to it at some of its ports.

    If it is left nothing at any port, that degrades it. ``surveys`` are what data paths follow, by
    watched port.
    """
    if not standing.is_exclusive or status.state not in (State.ACTIVE, State.DEGRADED):
        return status
    found = {
        port: takers(surveys[port.id], standing, port)
        for port in standing.watched
        if port.id in surveys
    }
    taken = {port: by_direction for port, by_direction in found.items() if by_direction}
    if not taken:
        return status
    state = State.DEGRADED if len(taken) == len(standing.watched) else status.state
    reasons = (*status.reasons, *_sentences(standing.session, taken))
    return replace(status, state=state, reasons=reasons)


def _sentences(own: Session, taken: Taken) -> Iterator[str]:
    """One for each that takes something, and for what of a port it takes."""
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
    """Sessions of other tenants have no name here."""
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
