"""Finds OpenFlow port numbers that pass from one port to another without a pause.

Switches forward by number: until the plan for such a change is applied, frames of the new port are
taken for those of the old one, and frames for the old one go to the new one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from flows.model import Dpid, Placement, PortId

SOON_S = 1.0
"""A number that nobody has had for so many seconds may go to anybody: plans without its port are
applied by then, unless something else is wrong."""
_NOWHERE: Mapping[PortId, Placement] = {}


@dataclass(frozen=True, slots=True)
class ReusedNumber:
    """A number that another port had a moment ago."""

    place: Placement
    before: PortId
    after: PortId


class ReusedNumbers:
    """Compares where ports are with where they were. ``now`` returns monotonic seconds.

    Any thread may call anything.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._placements = _NOWHERE
        self._freed: dict[Placement, tuple[PortId, float]] = {}

    def move(self, moves: Mapping[Dpid, Dpid]) -> None:
        """Bridges have other datapath ids: their ports are where they were."""

        def moved(place: Placement) -> Placement:
            dpid, owner = (moves.get(d, d) for d in (place.dpid, place.owner))
            return replace(place, dpid=dpid, owner=owner)

        with self._lock:
            self._placements = {port: moved(at) for port, at in self._placements.items()}
            self._freed = {moved(place): freed for place, freed in self._freed.items()}

    def follow(self, placements: Mapping[PortId, Placement]) -> list[ReusedNumber]:
        """This is where ports are now; the numbers that have passed from one to another."""
        with self._lock:
            return self._follow(placements)

    def _follow(self, placements: Mapping[PortId, Placement]) -> list[ReusedNumber]:
        before, self._placements = self._placements, placements
        if before is placements:
            return []
        now = self._now()
        self._freed = {p: freed for p, freed in self._freed.items() if now - freed[1] < SOON_S}
        for port, place in before.items():
            if placements.get(port) != place:
                self._freed[place] = port, now
        if not self._freed:
            return []
        found = []
        for port, place in placements.items():
            freed = self._freed.get(place)
            if freed is not None and before.get(port) != place:
                del self._freed[place]
                if freed[0] != port:
                    found.append(ReusedNumber(place, freed[0], port))
        return found
