"""Drift of a bridge: flows that are not as they were left, and whether that goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from controller.southbound import Rejected
from flows.openflow import FlowKey
from flows.plan import Meter, Plan

SEVERAL = 3
"""So many rechecks with drift within ``WITHIN_S`` mean a second writer; fewer may be a person."""
WITHIN_S = 600.0
QUIET = 2
"""A second writer has stopped when no drift was found for this many times the time between the
first and the last of those rechecks."""


class Drift:
    """When rechecks of one bridge found drift.

    Rechecks without drift may be in between: a second controller may compare more seldom.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._found_at: deque[float] = deque(maxlen=SEVERAL)

    @property
    def is_contested(self) -> bool:
        """Whether somebody else keeps changing the bridge: drift was found several times lately."""
        if len(self._found_at) < SEVERAL:
            return False
        first, last = self._found_at[0], self._found_at[-1]
        return last - first <= WITHIN_S and self._now() - last <= QUIET * (last - first)

    def note(self) -> None:
        """A recheck has found drift."""
        self._found_at.append(self._now())


def is_drift(todo: Plan, rejected: Iterable[Rejected]) -> bool:
    """Whether the plan of a recheck has more than what the bridge had refused before."""
    known: set[FlowKey] = set()
    has_meters = bool(todo.meters)
    for refused in (r.flow for r in rejected):
        if isinstance(refused, Meter):
            has_meters = False
        else:
            known.add(refused.key)
    keys = [*(flow.key for flow in todo.add), *(flow.key for flow in todo.remove)]
    return has_meters or any(key not in known for key in keys)


def contested_reason(bridge: str) -> str:
    """The sentence for people about a bridge that somebody else writes to."""
    return (
        f"flows of bridge {bridge!r} are changed by somebody else again and again: is a second "
        f"controller connected to it? See `ovs-vsctl get-controller {bridge}`"
    )
