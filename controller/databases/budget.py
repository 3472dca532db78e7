"""What a database may cost: processor time, and how often it is connected to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType

SHARE = 0.25
"""The share of one processor that one database may use in the long run."""
BURST_S = 10.0
"""Processor time that it may use at once, in seconds: some 200,000 rows."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 4.0
"""Pause before connecting again, in seconds: doubled each time."""
BAD_PAUSE_S, LONGEST_BAD_PAUSE_S = 2.0, 60.0
"""The same after it sent what is not acceptable."""
GOOD_S = 60.0
"""A connection that was synced for so long is good: pauses begin anew, in seconds."""


class CpuBudget:
    """Processor time of this thread for one database: ``with budget:`` spends it.

    Whoever has spent too much is not read from for a while; TCP makes it wait.
    """

    def __init__(self) -> None:
        self._left, self._at = BURST_S, time.monotonic()
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._left -= time.thread_time() - self._began

    def debt(self) -> float:
        """How long to read nothing, in seconds; 0 while there is something left."""
        now = time.monotonic()
        self._left = min(BURST_S, self._left + (now - self._at) * SHARE)
        self._at = now
        return max(0.0, -self._left / SHARE)


@dataclass(slots=True)
class Backoff:
    """Pauses between connections: growing, longer for a database that sends what is bad."""

    _failures: int = field(default=0)
    _offences: int = field(default=0)

    def failed(self) -> float:
        """The connection failed or ended; the pause in seconds."""
        self._failures += 1
        return float(min(FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE_S))

    def offended(self) -> float:
        """It sent what is not acceptable; the pause in seconds."""
        self._offences += 1
        return float(min(BAD_PAUSE_S * 2 ** min(self._offences - 1, 10), LONGEST_BAD_PAUSE_S))

    def synced(self) -> None:
        """All rows have come: a server that restarts is found again at once."""
        self._failures = 0

    def lasted(self, seconds: float) -> None:
        """A connection was synced for so long."""
        if seconds >= GOOD_S:
            self._offences = 0
