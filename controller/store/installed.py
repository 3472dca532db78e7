"""Which sessions may have flows on which bridge, even while the bridge is disconnected."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, bindparam, delete, insert, select

from controller.store import tables
from controller.store.database import Database
from flows.model import Dpid


class InstalledSessionsRepository:
    """Session numbers by bridge, in memory and in the database; only differences are written.

    A session is recorded before its first flow is sent to a bridge. So a session that is deleted
    while the bridge is disconnected, or after a crash, stays known until the bridge has confirmed
    that its flows are removed. Every change may raise StoreError: then it is in memory only, and is
    written together with the next change of the bridge.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        found: defaultdict[Dpid, set[int]] = defaultdict(set)
        with database.reading() as connection:
            for bridge, session in connection.execute(select(tables.installed_sessions)):
                found[Dpid(int(bridge, 16))].add(session)
        self._stored = {dpid: frozenset(sessions) for dpid, sessions in found.items()}
        self._numbers = dict(self._stored)

    def holders(self, session: int) -> frozenset[Dpid]:
        """The bridges that may have flows of the session with this number."""
        with self._lock:
            return frozenset(d for d, sessions in self._numbers.items() if session in sessions)

    def bridges(self) -> frozenset[Dpid]:
        """The bridges that may have flows of any session."""
        with self._lock:
            return frozenset(dpid for dpid, sessions in self._numbers.items() if sessions)

    def sessions_by_bridge(self) -> Mapping[Dpid, frozenset[int]]:
        """The sessions that each bridge may have flows of."""
        with self._lock:
            return dict(self._numbers)

    def add(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """Record that a bridge may have flows of these sessions, too, from now on."""
        with self._lock:
            more, known = frozenset(sessions), self._numbers.get(dpid, frozenset())
            if known is not self._stored.get(dpid) or not known >= more:
                self._change(dpid, known | more)

    def replace(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """Record that a bridge has flows of these sessions only."""
        with self._lock:
            self._change(dpid, frozenset(sessions))

    @contextmanager
    def forgetting(self, dpid: Dpid) -> Iterator[Connection]:
        """A transaction that also removes the record of a bridge."""
        with self._lock:
            with self._database.writing() as connection:
                connection.execute(
                    delete(tables.installed_sessions).filter_by(bridge=f"{dpid:016x}")
                )
                yield connection
            self._numbers.pop(dpid, None)
            self._stored.pop(dpid, None)

    @contextmanager
    def moving(self, moves: Mapping[Dpid, Dpid]) -> Iterator[Connection]:
        """A transaction in which bridges have other datapath ids: flows of one may be there, too.

        Nothing is taken from the old ones: their last connections may have added some, and whoever
        has such an id next is asked what it has.
        """
        with self._lock:
            known = dict(self._numbers)
            more = {
                new: known[old] | known.get(new, frozenset())
                for old, new in moves.items()
                if old in known
            }
            with self._database.writing() as connection:
                for new, sessions in more.items():
                    missing = sessions - self._stored.get(new, frozenset())
                    rows = [{"bridge": f"{new:016x}", "session": number} for number in missing]
                    if rows:
                        connection.execute(insert(tables.installed_sessions), rows)
                yield connection
            for new, sessions in more.items():
                _put(self._numbers, new, sessions)
                _put(self._stored, new, sessions | self._stored.get(new, frozenset()))

    @contextmanager
    def renaming(self, old: Dpid, new: Dpid) -> Iterator[Connection]:
        """A transaction in which the flows that one bridge may have become those of another."""
        with self._lock:
            both = self._numbers.get(old, frozenset()) | self._numbers.get(new, frozenset())
            with self._database.writing() as connection:
                for dpid in (old, new):
                    connection.execute(
                        delete(tables.installed_sessions).filter_by(bridge=f"{dpid:016x}")
                    )
                if both:
                    rows = [{"bridge": f"{new:016x}", "session": number} for number in both]
                    connection.execute(insert(tables.installed_sessions), rows)
                yield connection
            for known in (self._numbers, self._stored):
                known.pop(old, None)
                _put(known, new, both)

    def _change(self, dpid: Dpid, sessions: frozenset[int]) -> None:
        _put(self._numbers, dpid, sessions)
        before = self._stored.get(dpid, frozenset())
        gone, new = before - sessions, sessions - before
        if gone or new:
            self._write(dpid, gone, new)
        _put(self._stored, dpid, sessions)

    def _write(self, dpid: Dpid, gone: Iterable[int], new: Iterable[int]) -> None:
        bridge = f"{dpid:016x}"
        with self._database.writing() as connection:
            if gone:
                one = delete(tables.installed_sessions).where(
                    tables.installed_sessions.c.bridge == bridge,
                    tables.installed_sessions.c.session == bindparam("gone"),
                )
                connection.execute(one, [{"gone": number} for number in gone])
            if new:
                rows = [{"bridge": bridge, "session": number} for number in new]
                connection.execute(insert(tables.installed_sessions), rows)


def _put(known: dict[Dpid, frozenset[int]], dpid: Dpid, sessions: frozenset[int]) -> None:
    """Note the sessions of a bridge; one without sessions leaves nothing."""
    if sessions:
        known[dpid] = sessions
    else:
        known.pop(dpid, None)
