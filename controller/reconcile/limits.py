"""Sessions that stop by themselves: at a time, or after so many copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

import structlog

from controller.process import ChangeSignal
from controller.reconcile.protocols import Counting, CountKey, LimitStore, Parts
from controller.reconcile.snapshot import Snapshot
from controller.status import Measure, ids_of
from controller.store import Limits
from flows.model import Dpid, SessionId
from flows.openflow import PacketCount

CHECK_S = 0.3
"""How often limits are checked, in seconds: a session stops within a second."""

KEEP_EVERY = timedelta(seconds=10)
"""How often the counts of sessions with limits are stored, for a restart."""
KEEP_ALL_EVERY = timedelta(seconds=60)
"""How often the counts of all sessions are stored. A bridge keeps what it has counted until it is
restarted itself, so they matter only after a restart of both. What a bridge may lose that goes
away, or whose counters are begun anew, is stored at once."""
BRIDGES_AT_ONCE = 16
"""So many such bridges are looked at in one check."""

_MEASURES = frozenset(measure.value for measure in Measure)
"""A database of another version may have counted something else, too."""

log = structlog.get_logger(__name__)


class LimitChecker:
    """Stops sessions at their limits; call ``restore`` once, then ``check`` every CHECK_S.

    It asks bridges for their counters only while a session has a limit of packets or bytes. Every
    call may raise StoreError; then the next check tries again.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        store: LimitStore,
        counting: Counting,
        changes: ChangeSignal,
        now: Callable[[], datetime],
    ) -> None:
        self._snapshot, self._store, self._counting = snapshot, store, counting
        self._changes, self._now = changes, now
        self._kept: dict[CountKey, Parts] = {}
        self._unkept: dict[Dpid, frozenset[int]] = {}
        self._kept_at = self._all_kept_at = now()

    def restore(self, numbers: Mapping[SessionId, int]) -> None:
        """Restore the counts that an earlier controller stored; ``numbers`` are of sessions."""
        self._kept = dict(self._store.counts())
        for (session, dpid, measure), (before, last) in self._kept.items():
            if session in numbers and measure in _MEASURES:
                self._counting.restore_copies(
                    dpid, Measure(measure), numbers[session], before, last
                )

    def check(self) -> float:
        """Stop every session that has reached a limit; returns CHECK_S, when it is due again."""
        snapshot = self._snapshot()
        numbers = snapshot.numbers.session
        counted = [s for s, limits in snapshot.limits.items() if limits.counts_copies]
        if counted:
            self._counting.count_copies(numbers[session] for session in counted)
        stopped: list[SessionId] = []
        try:
            for session, limits in snapshot.limits.items():
                reason = reached(limits, self._counting.copies_of(numbers[session]), self._now())
                if reason is not None:
                    self._store.stop(session, reason, limits)
                    stopped.append(session)
                    log.info("session stopped", session=session, reason=reason)
        finally:
            if stopped:  # although the next one could not be written down
                self._changes.changed()
        now = self._now()
        if now - self._all_kept_at >= KEEP_ALL_EVERY:
            self._all_kept_at = now
            self._keep(numbers, numbers)
        elif stopped or now - self._kept_at >= KEEP_EVERY:
            self._keep(counted, numbers)
        self._keep_of_bridges(numbers)
        return CHECK_S

    def keep(self) -> None:
        """Store what was counted of every session, before the end."""
        numbers = self._snapshot().numbers.session
        self._keep(numbers, numbers)

    def _keep(self, sessions: Iterable[SessionId], numbers: Mapping[SessionId, int]) -> None:
        by_number = {numbers[session]: session for session in sessions}
        with self._counting.storing():
            parts = self._counting.parts(by_number).items()
            self._write({(by_number[n], dpid, m.value): both for (n, dpid, m), both in parts})
        self._kept = {key: parts for key, parts in self._kept.items() if key[0] in numbers}
        self._kept_at = self._now()

    def _keep_of_bridges(self, numbers: Mapping[SessionId, int]) -> None:
        """Store what bridges have counted that are away, or that count from 0 now."""
        for dpid, sessions in self._counting.take_unkept():
            self._unkept[dpid] = self._unkept.get(dpid, frozenset()) | sessions
        if not self._unkept:
            return
        by_number = {number: session for session, number in numbers.items()}
        for dpid in list(self._unkept)[:BRIDGES_AT_ONCE]:
            live = self._unkept[dpid] & by_number.keys()
            with self._counting.storing():
                parts = self._counting.parts_on(dpid, live).items()
                self._write({(by_number[n], dpid, m.value): both for (n, m), both in parts})
            del self._unkept[dpid]

    def _write(self, parts: Mapping[CountKey, Parts]) -> None:
        """Store those of these counts that differ from what is stored.

        Of bridges whose new datapath ids are not stored, nothing is: that is done together.
        """
        if rewritten := self._counting.take_rewritten():
            self._kept = {key: both for key, both in self._kept.items() if key[1] not in rewritten}
        moving = ids_of(self._counting.unstored())  # asked for after the counts
        changed = {
            key: both
            for key, both in parts.items()
            if self._kept.get(key) != both and key[1] not in moving
        }
        self._store.keep_counts(changed)
        self._kept.update(changed)


def reached(limits: Limits, copies: PacketCount, now: datetime) -> str | None:
    """The reason why a session with these copies must stop now, or None.

    It names no number of copies: more are made until the switches have confirmed the stop, and the
    status counts them.
    """
    if limits.expires_at is not None and limits.expires_at <= now:
        return f"it expired at {limits.expires_at.isoformat().replace('+00:00', 'Z')}"
    packets = copies.packets - limits.counted_from.packets
    if limits.max_packets is not None and packets >= limits.max_packets:
        return f"it reached its limit of {limits.max_packets} packets"
    volume = copies.bytes - limits.counted_from.bytes
    if limits.max_bytes is not None and volume >= limits.max_bytes:
        return f"it reached its limit of {limits.max_bytes} bytes"
    return None
