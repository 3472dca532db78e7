"""What changed from one resolved world to the next, by region."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TypeVar

from flows.model import STEPS_MAX, Dpid, Placement, PortId, SessionId

Id = TypeVar("Id")
SessionsByRegion = Mapping[Dpid, Set[SessionId]]
"""Sessions by the regions in which they have flows.

A region is a set of bridges that links connect; it is named by its lowest datapath id (see
SpanningTree.component).
"""


class RegionHistory:
    """The changes between consecutive resolved worlds, by region; the last STEPS_MAX are kept."""

    def __init__(self) -> None:
        self._steps: dict[int, tuple[SessionsByRegion, frozenset[Dpid]]] = {}

    def note(self, serial: int, changed: SessionsByRegion, moved: frozenset[Dpid]) -> int:
        """Record the step after world ``serial``; the serial of the world that follows.

        ``moved`` are the regions in which ports were added, removed, moved or renumbered.
        """
        self._steps[serial + 1] = changed, moved
        self._steps.pop(serial + 1 - STEPS_MAX, None)
        return serial + 1

    def between(self, before: int, now: int, region: Dpid) -> Set[SessionId] | None:
        """The sessions that changed in a region after world ``before``, up to world ``now``.

        None when a step is no longer kept, or when ports moved in this region.
        """
        steps = [self._steps.get(serial) for serial in range(before + 1, now + 1)]
        known = [step[0] for step in steps if step is not None and region not in step[1]]
        if before > now or len(known) < len(steps):
            return None
        return set().union(*(step[region] for step in known if region in step))


def moved_ports(old: Mapping[PortId, Placement], new: Mapping[PortId, Placement]) -> Set[PortId]:
    """The ports whose placement was added, removed or changed."""
    if old is new:
        return frozenset()
    others = {port for port, place in new.items() if old.get(port) != place}
    return others | (old.keys() - new.keys())


def moved_claims(
    old: Mapping[PortId, tuple[Placement, ...]], new: Mapping[PortId, tuple[Placement, ...]]
) -> list[Placement]:
    """The places that claim a port now and did not, or did and do not."""
    before, after = ({p for places in each.values() for p in places} for each in (old, new))
    if old == new:
        return []
    return sorted(before ^ after) or sorted(before | after)


def changed_keys(one: Mapping[Id, object], other: Mapping[Id, object]) -> Set[Id]:
    """The keys whose values differ between two mappings, or that only one of them has."""
    if one is other:
        return frozenset()
    found = {key for key in one.keys() | other.keys() if one.get(key) is not other.get(key)}
    return {key for key in found if one.get(key) != other.get(key)}
