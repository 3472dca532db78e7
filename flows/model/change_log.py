"""States that follow one another, and which sessions changed at each step."""

from __future__ import annotations

from collections.abc import Set

from flows.model.session import SessionId

STEPS_MAX = 1000
"""Steps that are remembered: whoever missed more must look at everything."""


class Lineage:
    """States that followed one another, surveys for example, and what changed at each step."""

    def __init__(self) -> None:
        self._changed: dict[int, frozenset[SessionId]] = {}

    def note(self, serial: int, changed: Set[SessionId]) -> int:
        """The number of the state that follows number ``serial`` with these changes."""
        self._changed[serial + 1] = frozenset(changed)
        self._changed.pop(serial + 1 - STEPS_MAX, None)
        return serial + 1

    def between(self, before: int, now: int) -> Set[SessionId] | None:
        """What changed after one state up to another; None when that is not known any more."""
        steps = [self._changed.get(serial) for serial in range(before + 1, now + 1)]
        known = [step for step in steps if step is not None]
        return set().union(*known) if before <= now and len(known) == len(steps) else None
