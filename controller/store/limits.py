"""Sessions stopped at a limit, and the counters of copies; both survive a restart."""

from __future__ import annotations

from sqlalchemy import select

from controller.store import tables
from controller.store.counts import CounterKey, StoredCounts, write_counts
from controller.store.database import Database
from controller.store.sessions import SessionRepository
from controller.store.values import WHO, Limits
from flows.model import Dpid, SessionId
from flows.openflow import PacketCount

WANTED, BY_FLOWS, NOT_MADE = "wanted", "flows", ("skipped", "shed")
"""A measure of an earlier version, the measure that it becomes, and what was not made of it."""


class LimitRepository:
    """The rows that the limit checker writes. Every method may raise StoreError."""

    def __init__(self, database: Database, *, sessions: SessionRepository) -> None:
        self._database, self._sessions = database, sessions

    def stop(self, session: SessionId, reason: str, limits: Limits) -> None:
        """Mark a session as stopped, because it reached one of these limits.

        Does nothing if the session was deleted or stopped, or its limits were changed, meanwhile.
        """
        self._sessions.stop(session, reason, limits, WHO)

    def counts(self) -> StoredCounts:
        """The counters as they were stored last."""
        with self._database.reading() as connection:
            found = {
                (SessionId(row.session), Dpid(int(row.bridge, 16)), row.measure): (
                    PacketCount(row.before_packets, row.before_bytes),
                    PacketCount(row.last_packets, row.last_bytes),
                )
                for row in connection.execute(select(tables.counts))
            }
        return _without_wanted(found)

    def keep_counts(self, counts: StoredCounts) -> None:
        """Store these counters; those of sessions that no longer exist are left out."""
        if not counts:
            return
        with self._database.writing() as connection:
            write_counts(connection, counts)


def _without_wanted(
    counts: dict[CounterKey, tuple[PacketCount, PacketCount]],
) -> StoredCounts:
    """The counters with those of an earlier version, which stored the copies that a session wanted
    and not those that were made. Its switches go on from 0 with other counters.
    """
    for session, dpid, measure in [key for key in counts if key[2] == WANTED]:
        wanted = sum(counts.pop((session, dpid, measure)), PacketCount())
        if (session, dpid, BY_FLOWS) in counts:  # converted by an earlier start
            continue
        keys = [(session, dpid, lost) for lost in NOT_MADE]
        lost = sum((part for key in keys for part in counts.get(key, ())), PacketCount())
        made = PacketCount(max(0, wanted.packets - lost.packets), max(0, wanted.bytes - lost.bytes))
        counts[session, dpid, BY_FLOWS] = made, PacketCount()
    return counts
