"""Session records in memory; only sessions that were changed are read again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from controller.store.database import Database
from controller.store.errors import StoreError
from controller.store.session_rows import read_sessions
from controller.store.switched_off import SwitchedOff
from controller.store.values import DesiredState, Limits, SessionRecord
from flows.model import ChangeLog, Session, SessionId


@dataclass
class _View:
    """All session records, and the parts of the desired state that follow from them."""

    records: dict[SessionId, SessionRecord] = field(default_factory=dict)
    running: dict[SessionId, Session] = field(default_factory=dict)
    deleting: dict[SessionId, Session] = field(default_factory=dict)
    stopped: dict[SessionId, str] = field(default_factory=dict)
    limits: dict[SessionId, Limits] = field(default_factory=dict)

    def put(self, record: SessionRecord) -> None:
        """Add one session."""
        key = record.session.id
        self.records[key] = record
        if record.is_deleting:
            self.deleting[key] = record.session
            return
        self.running[key] = record.session
        if not record.session.enabled:
            return
        if record.stopped is not None:  # switches treat it as not enabled
            self.stopped[key] = record.stopped
            self.running[key] = replace(record.session, enabled=False)
        elif record.limits:
            self.limits[key] = record.limits

    def drop(self, key: SessionId) -> None:
        """Remove one session."""
        parts: tuple[dict[SessionId, Any], ...] = (
            self.records, self.running, self.deleting, self.stopped, self.limits,
        )  # fmt: skip
        for part in parts:
            part.pop(key, None)


class SessionCache:
    """Every session record; each change is made within ``writing``.

    A session stays the same object until it is changed, so that callers can detect changes by
    identity. Every method but ``writing`` may raise StoreError.
    """

    def __init__(self, database: Database, switched_off: SwitchedOff) -> None:
        self._database, self._switched_off = database, switched_off
        self._lock = threading.Lock()
        self._view: _View | None = None
        self._changes, self._moment = ChangeLog(), 0
        self._stale: set[SessionId] = set()
        self._being_written: Counter[SessionId] = Counter()
        self._stale_lock = threading.Lock()

    @contextmanager
    def writing(self, sessions: Iterable[SessionId]) -> Iterator[None]:
        """A transaction that adds, changes or removes these sessions, from its begin to its commit.

        Until it ends they are read anew each time: who has seen the commit sees them changed.
        """
        written = list(sessions)
        with self._stale_lock:
            self._being_written.update(written)
        is_committed = False
        try:
            yield
            is_committed = True
        finally:
            with self._stale_lock:
                self._being_written.subtract(written)
                self._being_written = +self._being_written
                if is_committed:
                    self._stale.update(written)

    def switch_off(self, session: SessionId) -> None:
        """Take in that a session was switched off, without the database."""
        with self._lock:
            view = self._view
            record = view.records.get(session) if view is not None else None
            if view is None or record is None:
                return
            self._moment = self._changes.note(self._moment, {session})
            view.drop(session)
            view.put(self._as_it_is(record))

    def all(self) -> tuple[SessionRecord, ...]:
        """Every session, those being deleted included, in no order."""
        with self._lock:
            return tuple(self._current().records.values())

    def get(self, session: SessionId) -> SessionRecord | None:
        """One session, also while it is being deleted."""
        with self._lock:
            return self._current().records.get(session)

    def desired(self) -> DesiredState:
        """The sessions' part of the desired state, without collectors and filters."""
        with self._lock:
            view = self._current()
            return DesiredState(
                session_by_id=dict(view.running),
                deleting=dict(view.deleting),
                stopped=dict(view.stopped),
                limits=dict(view.limits),
                moment=self._moment,
            )

    def changed_between(self, before: int, now: int) -> Set[SessionId] | None:
        """The sessions that may differ at two moments; None: no longer known, any may."""
        with self._lock:
            return self._changes.between(before, now)

    def _current(self) -> _View:
        """The view, after reading stale sessions, and those that are being written, again."""
        with self._stale_lock:
            stale, self._stale = self._stale, set()
            again = stale | set(self._being_written)
        if self._view is not None and not again:
            return self._view
        try:
            # the transaction begins here: it sees every change that was committed before
            with self._database.reading() as connection:
                if self._view is None:
                    fresh, view = read_sessions(connection), _View()
                else:
                    fresh, view = (), self._view
                    for session in again:
                        fresh += read_sessions(connection, session)
        except BaseException as error:
            with self._stale_lock:
                self._stale |= stale
            if isinstance(error, StoreError) and self._view is not None and not stale:
                return self._view  # nothing is known to have changed
            raise
        records = {record.session.id: self._as_it_is(record) for record in fresh}
        changed = {key for key in again if view.records.get(key) != records.get(key)}
        self._moment = self._changes.note(self._moment, changed | stale)
        for session in changed | stale:
            view.drop(session)
        for key, record in records.items():
            if key not in view.records:
                view.put(record)
        self._view = view
        return view

    def _as_it_is(self, record: SessionRecord) -> SessionRecord:
        """A stored record, and what the database does not have yet."""
        entry = self._switched_off.find(record.session.id)
        return record if entry is None else entry.apply(record)
