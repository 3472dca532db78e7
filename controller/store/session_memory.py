"""Session records in memory, read again from the database only when they were changed."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from sqlalchemy import Connection

from controller.store.rows import read_sessions
from controller.store.values import SessionRecord
from flows.model import SessionId


class SessionMemory:
    """Every session record; who has changed one says so with ``touch``, after the change.

    The same object is given out for a session until it was touched, so that others can tell by
    identity what has changed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[SessionId, SessionRecord] | None = None
        self._touched: set[SessionId] = set()

    def touch(self, sessions: Iterable[SessionId]) -> None:
        """These were added, changed or removed."""
        with self._lock:
            self._touched.update(sessions)

    def records(self, connection: Connection) -> tuple[SessionRecord, ...]:
        """Every session as the database has it, those being deleted too, in no order."""
        with self._lock:
            touched, self._touched = self._touched, set()
            try:
                self._read(connection, touched)
            except BaseException:
                self._touched |= touched
                raise
            assert self._records is not None, "it has just been read"
            return tuple(self._records.values())

    def _read(self, connection: Connection, touched: Iterable[SessionId]) -> None:
        if self._records is None:
            self._records = {r.session.id: r for r in read_sessions(connection)}
            return
        for session in touched:
            found = read_sessions(connection, session)
            if found:
                self._records[session] = found[0]
            else:
                self._records.pop(session, None)
