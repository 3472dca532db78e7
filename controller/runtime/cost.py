"""What the messages of one connection may cost: processor time, shared out like a CPU quota.

A connection has a credit of processor time that is refilled at a share of the clock (a token
bucket). Whoever has used it up is read more slowly: what it sends then waits in its own socket, and
not here. All connections of one kind have a credit together, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

PAUSE_MAX_S = 2.0
"""The longest pause between two reads, in seconds."""
THROTTLED_MAX_S = 15.0
"""A connection that was out of credit for so long without a break is cut off, in seconds."""
BREAK_S = 2 * PAUSE_MAX_S
"""Whoever has credit for so long is within its share again, in seconds: who is not runs out of it
after each pause."""
MESSAGE_MAX_S = 0.005
"""No message counts for more processor time, in seconds: its thread may have waited meanwhile."""


@dataclass(frozen=True)
class Quota:
    """A share of one processor, and how much of it may be used at once, in seconds."""

    share: float
    burst_s: float


GUEST, BRIDGE = Quota(0.02, 0.05), Quota(0.05, 1.0)
"""One connection: before its bridge was found to be ours, and after that."""
GUESTS, BRIDGES = Quota(0.20, 20.0), Quota(0.30, 20.0)
"""All of them together."""


class Credit:
    """Processor time that may be used at a moment; negative when more was used than allowed."""

    def __init__(self, quota: Quota, now: float) -> None:
        self.quota, self.left, self._at = quota, quota.burst_s, now

    def spend(self, seconds: float, now: float) -> float:
        """Use so much of it; returns what is left."""
        refill = (now - self._at) * self.quota.share
        self.left = min(self.quota.burst_s, self.left + refill) - seconds
        self._at = now
        return self.left


class Pool:
    """The credit of many connections together; any thread may use it."""

    def __init__(self, quota: Quota, now: Callable[[], float] = time.monotonic) -> None:
        self._lock, self._now, self._credit = threading.Lock(), now, Credit(quota, now())
        self._paused = 0

    def spend(self, seconds: float) -> float:
        """Use so much; how long whoever has used it pauses, in seconds.

        Those who pause share what there is: whoever uses little pauses little.
        """
        with self._lock:
            if self._credit.spend(seconds, self._now()) >= 0:
                return 0.0
            return seconds * max(1, self._paused) / self._credit.quota.share

    def pause(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Sleep, as one of those who share the credit."""
        with self._lock:
            self._paused += 1
        try:
            sleep(seconds)
        finally:
            with self._lock:
                self._paused -= 1


class Budget:
    """The credit of one connection, within that of its pool."""

    def __init__(self, quota: Quota, pool: Pool, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._credit, self.pool = now, Credit(quota, now()), pool
        self._short_since: float | None = None
        self._short_at = 0.0

    def spend(self, seconds: float) -> float:
        """Use so much; how long to pause before the next read, in seconds."""
        now, quota = self._now(), self._credit.quota
        left = self._credit.spend(seconds, now)
        if left < 0:
            self._short_since = now if self._short_since is None else self._short_since
            self._short_at = now
        elif now - self._short_at > BREAK_S:
            self._short_since = None
        pause = max(0.0, -left / quota.share, self.pool.spend(seconds))
        return min(PAUSE_MAX_S, pause)

    @property
    def is_exhausted(self) -> bool:
        """Whether it was out of credit for too long."""
        since = self._short_since
        return since is not None and self._now() - since > THROTTLED_MAX_S
