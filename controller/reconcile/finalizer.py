"""Ends what is not wanted any more, once no bridge holds any of it: as finalizers in Kubernetes.

A deleted session stays in the store until every bridge has confirmed that its flows are gone; a
number stays given until no bridge can use it in its old meaning.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import structlog

from controller.process import ChangeSignal, forget_bridge_metrics
from controller.reconcile.protocols import Counts, Deletions, InstalledSessions, KnownBridges
from controller.reconcile.report import CounterPoller
from controller.reconcile.snapshot import SnapshotBuilder
from controller.reconcile.writers import Writers
from controller.status import joined
from flows.errors import CloudtapError, Refused
from flows.model import Dpid, SessionId

log = structlog.get_logger(__name__)


class Finalizer:
    """Finishes deletions, frees numbers, and forgets bridges; any thread may call it."""

    def __init__(
        self,
        *,
        changes: ChangeSignal,
        snapshots: SnapshotBuilder,
        writers: Writers,
        installed_sessions: InstalledSessions,
        deletions: Deletions,
        bridges: KnownBridges,
        counters: CounterPoller,
    ) -> None:
        self._changes, self._snapshots, self._writers = changes, snapshots, writers
        self._installed_sessions, self._deletions = installed_sessions, deletions
        self._bridges, self._counters = bridges, counters
        self._released = 0

    def finish_deletions(self, deadline: float = math.inf) -> bool:
        """Remove deleted sessions that no bridge makes copies of; True when none is left over.

        After ``deadline`` (monotonic, in seconds) no further one is removed: their last counts
        may have to be waited for.
        """
        self.follow_identities()
        snapshot = self._snapshots.snapshot()
        if not snapshot.deleting:
            return True
        written = self._writers.may_write_older(snapshot.version)
        if written is None:
            return False
        number = snapshot.numbers.session
        gone = [
            session
            for session in snapshot.deleting
            if session not in written and not self._installed_sessions.holders(number[session])
        ]
        if gone:
            counts = {
                session: self._last_counts(number[session], deadline)
                for session in gone
                if time.monotonic() < deadline
            }
            gone = list(counts)
            try:
                self._deletions.finish_deletions(gone, counts)
            except CloudtapError as problem:  # their copies have ended all the same
                log.debug("deletions not recorded yet", reason=str(problem))
                return False
            self._changes.changed()
        return len(gone) == len(snapshot.deleting)

    def is_ending(self, session: SessionId) -> bool:
        """Whether a session is being deleted, and every bridge that may copy for it can be told."""
        snapshot = self._snapshots.snapshot()
        if session not in snapshot.deleting:
            return False
        holders = self._installed_sessions.holders(snapshot.numbers.session[session])
        able = {w.dpid for w in self._writers.writing() if w.confirmed.failure is None}
        return holders <= able

    def follow_identities(self) -> None:
        """Store which bridges have other ids, retire old ones, and forget strangers that are gone.

        Flows that were installed under the old id are waited for under the new one. A stranger is a
        bridge on which nothing was ever placed. What cannot be stored now is tried again.
        """
        try:
            self._store_moves()
            for old, new in self._bridges.replaced().items():
                self._retire(old, new)
        except CloudtapError as problem:  # a full disk must not keep sessions from ending
            log.warning("datapath ids not stored", reason=str(problem))
        for dpid in self._bridges.strangers():
            if self._writers.is_connected(dpid):
                continue
            with self._writers.while_absent(dpid) as is_absent:
                if is_absent and self._bridges.drop_stranger(dpid):
                    self._counters.forget(dpid)
                    forget_bridge_metrics(dpid)

    def _store_moves(self) -> None:
        """Store that bridges have other datapath ids, with what each has counted.

        Raises:
            CloudtapError: it cannot be stored; then nothing was changed.
        """
        if not self._counters.unstored():
            return
        by_number = self._by_number()
        with self._counters.storing():
            moves, parts = self._counters.unstored_parts(by_number)
            counts = {(by_number[n], dpid, m.value): both for (n, dpid, m), both in parts.items()}
            self._bridges.store_moves(joined(moves), counts)
            self._counters.note_stored(moves)
        for old, new in joined(moves).items():
            if old != new:
                log.info("bridge has another datapath id", old=f"{old:016x}", new=f"{new:016x}")

    def _retire(self, old: Dpid, new: Dpid) -> None:
        """Forget a datapath id that no bridge has, unless its last connection is still to end."""
        with self._writers.while_absent(old) as is_absent:
            if is_absent:
                self._bridges.retire(old, new)
                self._counters.retire(old)
                forget_bridge_metrics(old)

    def _last_counts(self, session: int, deadline: float) -> Mapping[str, object]:
        """What was copied for a session that no datapath copies for any more."""
        self._counters.count_last(session, deadline)
        copies, losses = self._counters.copies_of(session), self._counters.losses_of(session)
        counts: dict[str, object] = {
            "copies": {"packets": copies.packets, "bytes": copies.bytes},
            "truncated": losses.truncated,
            "skipped": dict(losses.by_reason),
        }
        untold = self._counters.untold_of(session)
        return {**counts, "uncounted": untold} if untold else counts

    def release_numbers(self) -> None:
        """Free numbers that nothing has any more, once no bridge can give them their old meaning.

        Every bridge that was ever ours must be connected and confirmed: one that is away may still
        send packets with an old link tag to the others.
        """
        version = self._snapshots.snapshot().version
        if version == self._released:
            return
        clean = {w.dpid for w in self._writers.writing() if w.has_confirmed(version)}
        if clean.issuperset(self._with_flows_of_ours()):
            self._snapshots.release_numbers(version)
            self._released = version
            self._counters.keep(frozenset(self._snapshots.snapshot().numbers.session.values()))

    def forget(self, dpid: Dpid, who: str) -> None:
        """Forget a bridge that will not come back; ``who`` is noted in the audit entry.

        Raises:
            Refused: it is connected.
            CloudtapError: it cannot be stored; then nothing was forgotten.
        """
        self._store_moves()
        name = self._bridges.bridge_name(dpid)
        with self._writers.while_absent(dpid) as is_absent:
            if not is_absent:
                raise Refused(
                    f"bridge {name!r} is connected: take this controller off it first, for example "
                    f"with `ovs-vsctl del-controller {name}` on its host, or switch it off"
                )
            with self._counters.storing():
                self._bridges.forget(dpid, who, self._counts_on(dpid))
            forget_bridge_metrics(dpid)
        log.info("bridge forgotten", bridge=name, dpid=f"{dpid:016x}", who=who)

    def _counts_on(self, dpid: Dpid) -> Counts:
        """All that one bridge has counted, to be stored."""
        by_number = self._by_number()
        parts = self._counters.parts_on(dpid, by_number)
        return {(by_number[n], dpid, measure.value): both for (n, measure), both in parts.items()}

    def _by_number(self) -> Mapping[int, SessionId]:
        numbers = self._snapshots.snapshot().numbers.session
        return {number: session for session, number in numbers.items()}

    def _with_flows_of_ours(self) -> set[Dpid]:
        """Every bridge that may have a flow of ours."""
        placed = self._snapshots.snapshot().resolved.world.dpids
        return {*placed, *self._bridges.bridge_names(), *self._installed_sessions.bridges()}
