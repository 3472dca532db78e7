"""How often the same bridge is written to in one database: quickly at first, then ever more seldom.

A database may confirm a write and not show it, or undo it again and again, by mistake or on
purpose: each of its reports would lead to another write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from dataclasses import dataclass

from flows.model import Dpid

QUICK_WRITES = 8
"""So many writes to one bridge come as soon as they are due; people make fewer in RUN_OVER_S."""
WRITE_PAUSE_S, WRITE_PAUSE_MAX_S = 1.0, 30.0
"""The pause after the last quick write; it is doubled after each further one, up to the second."""
RUN_OVER_S = 90.0
"""After so many seconds without a write, the next ones are quick again."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Writes to one bridge that follow each other; times are monotonic, in seconds."""

    writes: int
    last_at: float
    next_at: float


class WritePace:
    """The pace of writes to each bridge; not thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: dict[Dpid, _Run] = {}

    def note(self, dpid: Dpid) -> None:
        """A bridge was written to."""
        now, run = self._clock(), self._runs.get(dpid)
        writes = 1 if run is None or self._is_over(run, now) else run.writes + 1
        slow = writes - QUICK_WRITES
        pause_s = min(WRITE_PAUSE_S * 2 ** min(slow, 10), WRITE_PAUSE_MAX_S) if slow >= 0 else 0.0
        self._runs[dpid] = _Run(writes, now, now + pause_s)

    def next_at(self, dpid: Dpid) -> float:
        """When a bridge may be written to again, in monotonic seconds."""
        run = self._runs.get(dpid)
        return 0.0 if run is None else run.next_at

    def forget(self, dpid: Dpid) -> None:
        """Something else is to be written to a bridge: its run of writes is over."""
        self._runs.pop(dpid, None)

    def keep(self, dpids: Container[Dpid]) -> None:
        """Forget the writes to all other bridges that would not have to wait now."""
        now = self._clock()
        for dpid in [d for d, run in self._runs.items() if d not in dpids and run.next_at <= now]:
            del self._runs[dpid]

    @staticmethod
    def _is_over(run: _Run, now: float) -> bool:
        return now - run.last_at >= RUN_OVER_S
