"""Whether somebody else changes the flows of a bridge again and again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from controller.southbound.switch import Rejected
from flows.plan.plan import Plan
from flows.openflow.flow import FlowKey
from flows.plan.meters import Meter

SEVERAL = 3
WITHIN_S = 600.0
"""So many rechecks that find other flows than were left, within so long, mean a second writer;
fewer may be a person who tries something."""
QUIET = 2
"""It has stopped when nothing was found for so many times as long as the last of these took."""


class Drifts:
    """When rechecks of one bridge found it other than it was left.

    Rechecks that find it as it was may be in between: a second controller that looks more seldom
    sets its flows right more seldom.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._found_at: deque[float] = deque(maxlen=SEVERAL)

    @property
    def go_on(self) -> bool:
        """Whether there were several lately, and more are to be expected."""
        if len(self._found_at) < SEVERAL:
            return False
        first, last = self._found_at[0], self._found_at[-1]
        return last - first <= WITHIN_S and self._now() - last <= QUIET * (last - first)

    def note(self) -> None:
        """A recheck has found other flows than were left."""
        self._found_at.append(self._now())


def is_drift(todo: Plan, rejected: Iterable[Rejected]) -> bool:
    """Whether a plan that a recheck has made is about more than what the bridge refused before."""
    known: set[FlowKey] = set()
    has_meters = bool(todo.meters)
    for refused in (r.flow for r in rejected):
        if isinstance(refused, Meter):
            has_meters = False
        else:
            known.add(refused.key)
    keys = [*(flow.key for flow in todo.add), *(flow.key for flow in todo.remove)]
    return has_meters or any(key not in known for key in keys)


def contested(bridge: str) -> str:
    """The sentence for people about a bridge that somebody else writes to."""
    return (
        f"flows of bridge {bridge!r} are changed by somebody else again and again: is a second "
        f"controller connected to it? See `ovs-vsctl get-controller {bridge}`"
    )
