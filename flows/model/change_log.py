"""A log of changes: which sessions changed from one version of a state to the next."""

from __future__ import annotations

from collections.abc import Set

from flows.model.names import SessionId

STEPS_MAX = 1000
"""Versions that are kept; a reader that missed more must read everything again."""


class ChangeLog:
    """The sessions that changed in each version of a state, a ResolvedWorld for example."""

    def __init__(self) -> None:
        self._changed: dict[int, frozenset[SessionId]] = {}

    def note(self, serial: int, changed: Set[SessionId]) -> int:
        """Record what changed after version ``serial``; returns the number of the next version."""
        self._changed[serial + 1] = frozenset(changed)
        self._changed.pop(serial + 1 - STEPS_MAX, None)
        return serial + 1

    def between(self, before: int, now: int) -> Set[SessionId] | None:
        """What changed after one version up to another; None when the log does not reach back."""
        steps = [self._changed.get(serial) for serial in range(before + 1, now + 1)]
        known = [step for step in steps if step is not None]
        return set().union(*known) if before <= now and len(known) == len(steps) else None
