"""Which exclusive sessions leave nothing of a port to one that is asked after them."""

from __future__ import annotations

from collections.abc import Mapping

from flows.resolve.arbitration import rank
from flows.resolve.session import Standing
from flows.resolve.world import Survey
from flows.model.session import Direction, Port, Session


def takers(survey: Survey, standing: Standing, port: Port) -> Mapping[Direction, Session]:
    """Who takes every packet of a watched port before a session, by each direction of the session.

    Empty: in some direction nobody does, so a packet of the port may be left for it. A session
    takes every packet if it accepts everything; what filters accept is not looked at.
    """
    if not standing.is_exclusive or port.network is None:
        return {}
    contest = survey.contest(port.network, survey.place(port))
    if contest is None:
        return {}
    numbers = survey.world.numbers.session
    found: dict[Direction, Session] = {}
    for direction, chains in (
        (Direction.EGRESS, contest.sent),
        (Direction.INGRESS, contest.heard),
    ):
        if standing.session.direction.includes(direction):
            chain = chains.get(port.id)
            if not chain or not chain[-1].is_plain:  # one that takes everything ends a chain
                return {}
            if rank(chain[-1], numbers) >= rank(standing, numbers):
                return {}
            found[direction] = chain[-1].session
    return found
