"""Session records in memory, read again from the database only when they were changed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from typing import Any

from controller.store.database import Database
from controller.store.session_rows import read_sessions
from controller.store.values import Desired, Limits, SessionRecord
from flows.model.change_log import Lineage
from flows.model.session import Session, SessionId


@dataclass
class _Known:
    """What is known of sessions: their records, and what switches should know of them."""

    records: dict[SessionId, SessionRecord] = field(default_factory=dict)
    running: dict[SessionId, Session] = field(default_factory=dict)
    deleting: dict[SessionId, None] = field(default_factory=dict)
    stopped: dict[SessionId, str] = field(default_factory=dict)
    limits: dict[SessionId, Limits] = field(default_factory=dict)

    def put(self, record: SessionRecord) -> None:
        """Take one session as it is now."""
        key = record.session.id
        self.records[key] = record
        if record.is_deleting:
            self.deleting[key] = None
            return
        self.running[key] = record.session
        if not record.session.enabled:
            return
        if record.stopped is not None:  # switches know it as switched off
            self.stopped[key] = record.stopped
            self.running[key] = replace(record.session, enabled=False)
        elif record.limits:
            self.limits[key] = record.limits

    def drop(self, key: SessionId) -> None:
        """Forget one session."""
        views: tuple[dict[SessionId, Any], ...] = (
            self.records, self.running, self.deleting, self.stopped, self.limits,
        )  # fmt: skip
        for view in views:
            view.pop(key, None)


class SessionMemory:
    """Every session record; who has changed one says so with ``touch``, after the change.

    The same object is given out for a session until it was touched, so that others can tell by
    identity what has changed. Every method but ``touch`` may raise StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._view: _Known | None = None
        self._changes, self._moment = Lineage(), 0
        self._touched: set[SessionId] = set()
        self._touching = threading.Lock()

    def touch(self, sessions: Iterable[SessionId]) -> None:
        """These were added, changed or removed."""
        with self._touching:
            self._touched.update(sessions)

    def all(self) -> tuple[SessionRecord, ...]:
        """Every session, those being deleted too, in no order."""
        with self._lock:
            return tuple(self._known().records.values())

    def get(self, session: SessionId) -> SessionRecord | None:
        """One session, also while it is being deleted."""
        with self._lock:
            return self._known().records.get(session)

    def desired(self) -> Desired:
        """What tenants want of their sessions now; without collectors and filters."""
        with self._lock:
            known = self._known()
            return Desired(
                session_by_id=dict(known.running),
                deleting=tuple(known.deleting),
                stopped=dict(known.stopped),
                limits=dict(known.limits),
                moment=self._moment,
            )

    def changed_between(self, before: int, now: int) -> Set[SessionId] | None:
        """The sessions that may differ at two moments; None when that is not known any more."""
        with self._lock:
            return self._changes.between(before, now)

    def _known(self) -> _Known:
        with self._touching:
            touched, self._touched = self._touched, set()
        if self._view is not None and not touched:
            return self._view
        try:
            # what is looked at now is newer than every change that was told before
            with self._database.reading() as connection:
                if self._view is None:
                    fresh, view = read_sessions(connection), _Known()
                else:
                    fresh, view = (), self._view
                    for session in touched:
                        fresh += read_sessions(connection, session)
        except BaseException:
            self.touch(touched)
            raise
        self._moment = self._changes.note(self._moment, touched)
        for session in touched:
            view.drop(session)
        for record in fresh:
            view.put(record)
        self._view = view
        return view
