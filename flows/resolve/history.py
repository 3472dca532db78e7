"""Surveys that follow one another, and what changed at each step: sessions, and places."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TypeVar

from flows.model.change_log import STEPS_MAX
from flows.model.session import Dpid, PortId, SessionId
from flows.model.world import Placement

K = TypeVar("K")
ByHome = Mapping[Dpid, Set[SessionId]]
"""Sessions by the parts of the fabric in which they have flows; a part is named by its lowest
bridge (see Fabric.component)."""


class History:
    """Surveys of one estate, and what changed from each to the next, by parts of the fabric."""

    def __init__(self) -> None:
        self._steps: dict[int, tuple[ByHome, frozenset[Dpid]]] = {}

    def note(self, serial: int, changed: ByHome, moved: frozenset[Dpid]) -> int:
        """The number of the survey that follows number ``serial`` with these changes.

        ``moved`` are the parts of the fabric where ports came, went or got other numbers.
        """
        self._steps[serial + 1] = changed, moved
        self._steps.pop(serial + 1 - STEPS_MAX, None)
        return serial + 1

    def between(self, before: int, now: int, home: Dpid) -> Set[SessionId] | None:
        """The sessions that changed in a part of the fabric after one survey up to another.

        None when that is not known any more, or when ports moved in this part.
        """
        steps = [self._steps.get(serial) for serial in range(before + 1, now + 1)]
        known = [step[0] for step in steps if step is not None and home not in step[1]]
        if before > now or len(known) < len(steps):
            return None
        return set().union(*(step[home] for step in known if home in step))


def moved_ports(old: Mapping[PortId, Placement], new: Mapping[PortId, Placement]) -> Set[PortId]:
    """The ports that are elsewhere than before, or came, or went."""
    if old is new:
        return frozenset()
    others = {port for port, place in new.items() if old.get(port) != place}
    return others | (old.keys() - new.keys())


def other_keys(one: Mapping[K, object], other: Mapping[K, object]) -> Set[K]:
    """The keys under which two mappings hold different objects."""
    if one is other:
        return frozenset()
    found = {key for key in one.keys() | other.keys() if one.get(key) is not other.get(key)}
    return {key for key in found if one.get(key) != other.get(key)}
