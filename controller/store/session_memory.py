"""Session records in memory, read again from the database only when they were changed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from controller.store.database import Database
from controller.store.rows import read_sessions
from controller.store.values import SessionRecord
from flows.model import SessionId


class SessionMemory:
    """Every session record; who has changed one says so with ``touch``, after the change.

    The same object is given out for a session until it was touched, so that others can tell by
    identity what has changed. Every method but ``touch`` may raise StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._records: dict[SessionId, SessionRecord] | None = None
        self._touched: set[SessionId] = set()
        self._touching = threading.Lock()

    def touch(self, sessions: Iterable[SessionId]) -> None:
        """These were added, changed or removed."""
        with self._touching:
            self._touched.update(sessions)

    def all(self) -> tuple[SessionRecord, ...]:
        """Every session, those being deleted too, in no order."""
        with self._lock:
            return tuple(self._known().values())

    def get(self, session: SessionId) -> SessionRecord | None:
        """One session, also while it is being deleted."""
        with self._lock:
            return self._known().get(session)

    def _known(self) -> Mapping[SessionId, SessionRecord]:
        with self._touching:
            touched, self._touched = self._touched, set()
        if self._records is not None and not touched:
            return self._records
        try:
            # what is looked at now is newer than every change that was told before
            with self._database.reading() as connection:
                if self._records is None:
                    self._records = {r.session.id: r for r in read_sessions(connection)}
                for session in touched:
                    self._records.pop(session, None)
                    self._records |= {r.session.id: r for r in read_sessions(connection, session)}
        except BaseException:
            self.touch(touched)
            raise
        return self._records
