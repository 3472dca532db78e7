"""Sessions that reached a limit, and the copies counted so far, kept across restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from controller.store import tables
from controller.store import audit as journal
from controller.store.database import Database
from controller.store.session_rows import read_sessions, thing_of
from controller.store.values import Counted, Limits
from flows.model.session import Dpid, SessionId

WHO = "cloudtap"
"""Who stops a session at its limit, in the journal."""

Key = tuple[SessionId, Dpid, str]
"""A session, a bridge, and what was counted, in a word."""
Counts = Mapping[Key, tuple[Counted, Counted]]
"""What was counted before the switch began at 0 again, and its last report."""


class LimitBook:
    """What the checker of limits writes. Every method may raise StoreError.

    ``touch`` is told which session was changed.
    """

    def __init__(
        self,
        database: Database,
        now: Callable[[], datetime],
        touch: Callable[[Iterable[SessionId]], None],
    ) -> None:
        self._database, self._now, self._touch = database, now, touch

    def stop(self, session: SessionId, reason: str, limits: Limits) -> None:
        """Note that a session reached one of these limits.

        One that is gone or stopped, or has got other limits meanwhile, is left alone.
        """
        with self._database.writing() as connection:
            found = read_sessions(connection, session)
            if not found or found[0].is_deleting or found[0].stopped is not None:
                return
            if found[0].limits != limits:
                return
            connection.execute(update(tables.sessions).filter_by(id=session).values(stopped=reason))
            thing = thing_of(found[0].session)
            journal.write_entry(connection, self._now(), WHO, "stopped", thing, {"reason": reason})
        self._touch([session])

    def counts(self) -> Counts:
        """What was counted when it was kept last."""
        with self._database.reading() as connection:
            return {
                (SessionId(row.session), Dpid(int(row.bridge, 16)), row.measure): (
                    Counted(row.before_packets, row.before_bytes),
                    Counted(row.last_packets, row.last_bytes),
                )
                for row in connection.execute(select(tables.counts))
            }

    def keep_counts(self, counts: Counts) -> None:
        """Replace what was counted of these sessions on these bridges."""
        if not counts:
            return
        with self._database.writing() as connection:
            stored = set(connection.execute(select(tables.sessions.c.id)).scalars())
            _write(connection, (item for item in counts.items() if item[0][0] in stored))


def _write(
    connection: Connection,
    counts: Iterable[tuple[Key, tuple[Counted, Counted]]],
) -> None:
    rows = [
        {
            "session": session,
            "bridge": f"{dpid:016x}",
            "measure": measure,
            "before_packets": before.packets,
            "before_bytes": before.bytes,
            "last_packets": last.packets,
            "last_bytes": last.bytes,
        }
        for (session, dpid, measure), (before, last) in counts
    ]
    if rows:
        connection.execute(insert(tables.counts).prefix_with("OR REPLACE"), rows)
