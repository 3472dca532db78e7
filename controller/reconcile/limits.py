"""Sessions that stop by themselves: at a time, or after so many copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from controller.reconcile.snapshot import Snapshot
from controller.status.values import Copies, Measure
from controller.store import Counted, Limits
from flows.model.session import Dpid, SessionId

CHECK_S = 0.3
"""How often limits are looked at, in seconds: a session stops within a second."""

KEEP_EVERY = timedelta(seconds=10)
"""How often the copies of sessions with limits are written down, for the next controller."""

Parts = tuple[Counted, Counted]
Key = tuple[SessionId, Dpid, str]
"""A session, a bridge, and what was counted (see Measure)."""
Counts = Mapping[Key, Parts]

log = structlog.get_logger(__name__)


class Book(Protocol):
    """What is asked of the store."""

    def stop(self, session: SessionId, reason: str, limits: Limits) -> None:
        """A session reached one of these limits."""
        ...

    def counts(self) -> Counts:
        """What was written down last."""
        ...

    def keep_counts(self, counts: Counts) -> None:
        """Write down what was counted."""
        ...


class Counting(Protocol):
    """What is asked of the reconciler."""

    def count_copies(self, sessions: Iterable[int]) -> None:
        """Ask the bridges that may have copied for these sessions how much it was."""
        ...

    def copies_of(self, session: int) -> Copies:
        """All copies of a session, as far as they were counted."""
        ...

    def parts_of(self, session: int) -> Mapping[tuple[Dpid, Measure], tuple[Copies, Copies]]:
        """The same by bridge and measure: what was before the switch began at 0, and its report."""
        ...

    def restore_copies(
        self, dpid: Dpid, measure: Measure, session: int, before: Copies, last: Copies
    ) -> None:
        """What an earlier controller has counted."""
        ...

    def changed(self) -> int:
        """Something in the world changed."""
        ...


class LimitChecker:
    """Stops sessions at their limits; call ``restore`` once, then ``check`` every CHECK_S.

    Bridges are asked for their counters only while a session has a limit of packets or bytes.
    Every call may raise StoreError; then the next check tries again.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        book: Book,
        counting: Counting,
        now: Callable[[], datetime],
    ) -> None:
        self._snapshot, self._book, self._counting, self._now = snapshot, book, counting, now
        self._kept: dict[Key, Parts] = {}
        self._kept_at = now()

    def restore(self, numbers: Mapping[SessionId, int]) -> None:
        """Go on where the last controller has ended; ``numbers`` are those of the sessions."""
        self._kept = dict(self._book.counts())
        for (session, dpid, measure), (before, last) in self._kept.items():
            if session in numbers:
                self._counting.restore_copies(
                    dpid, Measure(measure), numbers[session], _copies(before), _copies(last)
                )

    def check(self) -> None:
        """Stop every session that has reached a limit."""
        snapshot = self._snapshot()
        if not snapshot.limits:
            return
        numbers = snapshot.numbers.session
        counted = [s for s, limits in snapshot.limits.items() if limits.counts_copies]
        if counted:
            self._counting.count_copies(numbers[session] for session in counted)
        stopped: list[SessionId] = []
        try:
            for session, limits in snapshot.limits.items():
                reason = reached(limits, self._counting.copies_of(numbers[session]), self._now())
                if reason is not None:
                    self._book.stop(session, reason, limits)
                    stopped.append(session)
                    log.info("session stopped", session=session, reason=reason)
        finally:
            if stopped:  # although the next one could not be written down
                self._counting.changed()
        if stopped or self._now() - self._kept_at >= KEEP_EVERY:
            self._keep(counted, numbers)

    def keep(self) -> None:
        """Write down what was counted, before the end."""
        snapshot = self._snapshot()
        counted = [s for s, limits in snapshot.limits.items() if limits.counts_copies]
        self._keep(counted, snapshot.numbers.session)

    def _keep(self, sessions: Iterable[SessionId], numbers: Mapping[SessionId, int]) -> None:
        now: dict[Key, Parts] = {}
        for session in sessions:
            for (dpid, measure), both in self._counting.parts_of(numbers[session]).items():
                now[session, dpid, measure.value] = _counted(both[0]), _counted(both[1])
        self._book.keep_counts({k: v for k, v in now.items() if self._kept.get(k) != v})
        self._kept, self._kept_at = now, self._now()


def reached(limits: Limits, copies: Copies, now: datetime) -> str | None:
    """The reason why a session with these copies must stop now, or None."""
    if limits.expires_at is not None and limits.expires_at <= now:
        return f"it expired at {limits.expires_at.isoformat().replace('+00:00', 'Z')}"
    packets = copies.packets - limits.counted_from.packets
    if limits.max_packets is not None and packets >= limits.max_packets:
        return f"it reached its limit of {limits.max_packets} packets: {packets} were copied"
    volume = copies.bytes - limits.counted_from.bytes
    if limits.max_bytes is not None and volume >= limits.max_bytes:
        return f"it reached its limit of {limits.max_bytes} bytes: {volume} were copied"
    return None


def _copies(counted: Counted) -> Copies:
    return Copies(counted.packets, counted.bytes)


def _counted(copies: Copies) -> Counted:
    return Counted(copies.packets, copies.bytes)
