"""Sessions: adding, changing and deleting them; each change is one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, delete, insert, update

from controller.store import audit, tables
from controller.store.audit import changed_values, subject_of
from controller.store.constraints import check_name_free, check_session_rows
from controller.store.database import Database
from controller.store.errors import NotFound, StoreError
from controller.store.idempotency import take_key
from controller.store.numbers import NumberRepository
from controller.store.session_cache import SessionCache
from controller.store.session_rows import (
    audit_detail,
    insert_sources,
    read_sessions,
    session_columns,
    write_sources,
)
from controller.store.switched_off import How, SwitchedOff, SwitchOff
from controller.store.values import (
    WHO,
    AuditedAction,
    DesiredState,
    IdempotencyKey,
    Limits,
    SessionRecord,
)
from flows.model import Session, SessionId

NO_COUNTS: Mapping[SessionId, Mapping[str, object]] = {}


class _DryRun(Exception):
    """Rolls back a transaction that was only to find out whether it would be refused."""


class SessionRepository:
    """Every session. Any number of threads may call it.

    Every method may raise StoreError; then nothing was changed.
    """

    def __init__(
        self,
        database: Database,
        *,
        cache: SessionCache,
        switched_off: SwitchedOff,
        numbers: NumberRepository,
        now: Callable[[], datetime],
    ) -> None:
        self._database, self._cache, self._switched_off = database, cache, switched_off
        self._numbers, self._now = numbers, now

    def all(self) -> tuple[SessionRecord, ...]:
        """Every session, those being deleted included, by tenant, name and id."""
        return tuple(sorted(self._cache.all(), key=_order))

    def find(self, key: SessionId) -> SessionRecord | None:
        """The session of one id, also while it is being deleted."""
        return self._cache.get(key)

    def named(self, name: str) -> tuple[SessionRecord, ...]:
        """The sessions of this name in all tenants, those being deleted included."""
        found = (record for record in self._cache.all() if record.session.name == name)
        return tuple(sorted(found, key=_order))

    def desired(self) -> DesiredState:
        """The sessions' part of the desired state, without collectors and filters."""
        return self._cache.desired()

    def changed_between(self, before: int, now: int) -> Set[SessionId] | None:
        """The sessions that may differ at two moments (see DesiredState); None: any may."""
        return self._cache.changed_between(before, now)

    def add(
        self,
        session: Session,
        who: str,
        idempotency_key: IdempotencyKey | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Add a session and allocate its number.

        Raises:
            NameTaken, NumberTaken: the tenant has one of this name, or exclusive number.
            NotFound: its collector or filter does not exist (any more).
            TooManyNumbers: the tenant has as many sessions as it may.
            Repeated: the idempotency key was used before.
        """
        self.settle()
        now = self._now()
        record = SessionRecord(session, now, limits=limits or Limits())
        giving = self._numbers.giving(session.id, session.tenant)
        with self._cache.writing([session.id]), giving as connection:
            take_key(connection, idempotency_key, session.id, session.tenant, now)
            _insert(connection, record)
            detail = audit_detail(record)
            audit.write_entry(connection, now, who, "created", subject_of(session), detail)

    def check_add(self, session: Session) -> None:
        """Raise what ``add`` would raise of names and references; write nothing."""
        try:
            with self._database.writing() as connection:
                _insert(connection, SessionRecord(session, self._now()))
                raise _DryRun
        except _DryRun:
            return

    def change(
        self, key: SessionId, change: Callable[[SessionRecord], SessionRecord], who: str
    ) -> SessionRecord:
        """Replace a session by ``change(record)`` in one transaction.

        A change that only switches the session off succeeds also while the database cannot be
        written; it is written later.

        Raises:
            NotFound: no session has this id, or it is being deleted, or its collector or filter
                does not exist.
            NameTaken, NumberTaken: another one of the tenant has the new name, or number.
            Whatever ``change`` raises; then nothing was changed.
        """
        try:
            self.settle()
            new = self._change(key, change, who)
        except StoreError as error:
            return self._switch_off(key, change, who, error)
        return new

    def _change(
        self, key: SessionId, change: Callable[[SessionRecord], SessionRecord], who: str
    ) -> SessionRecord:
        with self._cache.writing([key]), self._database.writing() as connection:
            found = [r for r in read_sessions(connection, key) if not r.is_deleting]
            if not found:
                raise NotFound("session", key)
            old = found[0]
            new = change(old)
            if new == old:
                return old
            if new.session.name != old.session.name:
                check_name_free(connection, "session", new.session.tenant, new.session.name)
            check_session_rows(connection, new.session)
            columns = session_columns(new)
            connection.execute(update(tables.sessions).filter_by(id=key).values(columns))
            write_sources(connection, new.session)
            changes = changed_values(audit_detail(old), audit_detail(new))
            subject = subject_of(old.session)
            audit.write_entry(connection, self._now(), who, "changed", subject, changes)
        return new

    def _switch_off(
        self,
        key: SessionId,
        change: Callable[[SessionRecord], SessionRecord],
        who: str,
        error: StoreError,
    ) -> SessionRecord:
        """Carry out a change that only disables a session, without the database.

        Raises:
            StoreError: ``error``, if the change does something else.
        """
        old = self._cache.get(key)
        if old is None or old.is_deleting:
            raise error
        new = change(old)
        if new.session != replace(old.session, enabled=False) or new.limits != old.limits:
            raise error
        self._note(SwitchOff(key, How.DISABLED, self._now(), who))
        return new

    def _note(self, entry: SwitchOff) -> None:
        self._database.check_open()
        self._switched_off.note(entry)
        self._cache.switch_off(entry.session)

    def delete(self, key: SessionId, who: str) -> None:
        """Mark a session as being deleted; it stays listed until ``finish_deletions``.

        Succeeds also while the database cannot be written; it is written later.

        Raises:
            NotFound: no session has this id.
        """
        try:
            self.settle()
            self._delete(key, who)
        except StoreError:
            if self._cache.get(key) is None:
                raise
            self._note(SwitchOff(key, How.DELETED, self._now(), who))

    def stop(self, key: SessionId, reason: str, limits: Limits, who: str) -> None:
        """Mark a session as stopped, because it reached one of these limits.

        Does nothing if the session was deleted or stopped, or its limits were changed, meanwhile.
        Succeeds also while the database cannot be written; it is written later.
        """
        try:
            self.settle()
            self._stop(key, reason, limits, who)
        except StoreError:
            record = self._cache.get(key)
            if record is None or record.is_deleting or record.limits != limits:
                return
            self._note(SwitchOff(key, How.STOPPED, self._now(), who, reason))

    def _stop(self, key: SessionId, reason: str, limits: Limits, who: str) -> None:
        with self._cache.writing([key]), self._database.writing() as connection:
            found = read_sessions(connection, key)
            if not found or found[0].is_deleting or found[0].stopped is not None:
                return
            if found[0].limits != limits:
                return
            self._write_off(connection, SwitchOff(key, How.STOPPED, self._now(), who, reason))

    def stop_doubtful(self) -> None:
        """Stop the sessions that a damaged journal may have held; call it once, at the start."""
        records = self._cache.all()
        doubtful = self._switched_off.doubtful([record.session.id for record in records])
        for record in records:
            key, is_off = record.session.id, record.is_deleting or record.stopped is not None
            if key in doubtful and record.session.enabled and not is_off:
                self._switched_off.doubt(key, self._now(), WHO)
                self._cache.switch_off(key)

    def is_unrecorded(self, key: SessionId) -> bool:
        """Whether it was switched off, and the database does not have that yet."""
        return self._switched_off.find(key) is not None

    def settle(self) -> None:
        """Write down what was switched off while the database could not be written."""
        waiting = self._switched_off.waiting
        if not waiting and not self._switched_off.is_damaged:
            return
        with self._cache.writing(entry.session for entry in waiting):
            with self._database.writing() as connection:
                for entry in waiting:
                    self._write_off(connection, entry)
            self._switched_off.forget(waiting)

    def _write_off(self, connection: Connection, entry: SwitchOff) -> None:
        """Write one session that was switched off, and its audit entry, if it is still on."""
        found = read_sessions(connection, entry.session)
        if not found or entry.apply(found[0]) == found[0]:
            return
        columns: dict[How, dict[str, object]] = {
            How.STOPPED: {"stopped": entry.reason},
            How.DISABLED: {"enabled": False},
            How.DELETED: {"deleting": True},
        }
        values = columns[entry.how]
        connection.execute(update(tables.sessions).filter_by(id=entry.session).values(values))
        subject = subject_of(found[0].session)
        details: dict[How, tuple[AuditedAction, dict[str, object]]] = {
            How.STOPPED: ("stopped", {"reason": entry.reason}),
            How.DISABLED: ("changed", {"enabled": False}),
            How.DELETED: ("deleted", {}),
        }
        what, detail = details[entry.how]
        audit.write_entry(connection, entry.at, entry.who, what, subject, detail)

    def _delete(self, key: SessionId, who: str) -> None:
        with self._cache.writing([key]), self._database.writing() as connection:
            found = read_sessions(connection, key)
            if not found:
                raise NotFound("session", key)
            self._write_off(connection, SwitchOff(key, How.DELETED, self._now(), who))

    def finish_deletions(
        self,
        sessions: Iterable[SessionId],
        counts: Mapping[SessionId, Mapping[str, object]] = NO_COUNTS,
    ) -> None:
        """Remove sessions that are being deleted, once no switch has a flow of theirs.

        Others are left alone. Their numbers stay allocated until they are released. ``counts`` says
        for the audit log what was copied for a session in all.
        """
        gone = list(sessions)
        if not gone:
            return
        self.settle()
        with self._cache.writing(gone), self._database.writing() as connection:
            for session in gone:
                found = [r for r in read_sessions(connection, session) if r.is_deleting]
                connection.execute(delete(tables.sessions).filter_by(id=session, deleting=True))
                if found and session in counts:
                    subject = subject_of(found[0].session)
                    audit.write_entry(
                        connection, self._now(), WHO, "removed", subject, counts[session]
                    )


def _order(record: SessionRecord) -> tuple[str, str, str]:
    return record.session.tenant, record.session.name, record.session.id


def _insert(connection: Connection, record: SessionRecord) -> None:
    session = record.session
    check_name_free(connection, "session", session.tenant, session.name)
    check_session_rows(connection, session)
    fixed = {"id": session.id, "created_at": record.created_at.isoformat(), "deleting": False}
    connection.execute(insert(tables.sessions), session_columns(record) | fixed)
    insert_sources(connection, session)
