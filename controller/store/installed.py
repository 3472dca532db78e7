"""Which bridges may be making copies of which sessions, although they may be out of reach now."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, bindparam, delete, insert, select

from controller.store import tables
from controller.store.database import Database
from flows.model.session import Dpid


class HoldingBook:
    """Session numbers by bridge, in memory and in the database; writes only what differs.

    A bridge is noted before it is sent a session's first flow, so that a session that is deleted
    while the bridge is away, or after a crash, is remembered until the bridge has let go of it.
    Every change may raise StoreError: then it counts as long as this process lives, and goes into
    the database together with the next change of the bridge.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changing = threading.Lock()
        found: defaultdict[Dpid, set[int]] = defaultdict(set)
        with database.reading() as connection:
            for bridge, session in connection.execute(select(tables.holdings)):
                found[Dpid(int(bridge, 16))].add(session)
        self._stored = {dpid: frozenset(sessions) for dpid, sessions in found.items()}
        self._numbers = dict(self._stored)

    def holders(self, session: int) -> frozenset[Dpid]:
        """The bridges that may be making copies of the session with this number."""
        with self._changing:
            return frozenset(d for d, sessions in self._numbers.items() if session in sessions)

    def bridges(self) -> frozenset[Dpid]:
        """The bridges that may be making copies of any session."""
        with self._changing:
            return frozenset(dpid for dpid, sessions in self._numbers.items() if sessions)

    def add(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """Note that these sessions may be on a bridge from now on, beside those that are."""
        with self._changing:
            more, held = frozenset(sessions), self._numbers.get(dpid, frozenset())
            if held is not self._stored.get(dpid) or not held >= more:
                self._change(dpid, held | more)

    def replace(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """Note that a bridge makes copies of these sessions alone."""
        with self._changing:
            self._change(dpid, frozenset(sessions))

    @contextmanager
    def forgetting(self, dpid: Dpid) -> Iterator[Connection]:
        """A change of the database that also forgets what a bridge may be making copies of."""
        with self._changing:
            with self._database.writing() as connection:
                connection.execute(delete(tables.holdings).filter_by(bridge=f"{dpid:016x}"))
                yield connection
            self._numbers.pop(dpid, None)
            self._stored.pop(dpid, None)

    def _change(self, dpid: Dpid, sessions: frozenset[int]) -> None:
        self._numbers[dpid] = sessions
        before = self._stored.get(dpid, frozenset())
        gone, new = before - sessions, sessions - before
        if gone or new:
            self._store(dpid, gone, new)
        self._stored[dpid] = sessions

    def _store(self, dpid: Dpid, gone: Iterable[int], new: Iterable[int]) -> None:
        bridge = f"{dpid:016x}"
        with self._database.writing() as connection:
            if gone:
                one = delete(tables.holdings).where(
                    tables.holdings.c.bridge == bridge,
                    tables.holdings.c.session == bindparam("gone"),
                )
                connection.execute(one, [{"gone": number} for number in gone])
            if new:
                rows = [{"bridge": bridge, "session": number} for number in new]
                connection.execute(insert(tables.holdings), rows)
