"""Named objects of tenants, collectors and filters alike: how they are added, changed, deleted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import ClassVar, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Table, delete, select

from controller.store import audit, tables
from controller.store.audit import Subject, changed_values
from controller.store.cache import Cached
from controller.store.constraints import check_name_free
from controller.store.database import Database
from controller.store.errors import InUse, NotFound
from controller.store.idempotency import take_key
from controller.store.values import AuditedKind, IdempotencyKey


class NamedObject(Protocol):
    """Anything with an id, and a name that is unique in its tenant."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def tenant(self) -> str: ...


Record = TypeVar("Record")


class NamedRepository(ABC, Generic[Record]):
    """All objects of one kind that tenants name and sessions refer to.

    Each change is one transaction: the rows, the audit entry and the idempotency key. Any number
    of threads may call it. Every method may raise StoreError; then nothing was changed.
    """

    kind: ClassVar[AuditedKind]
    """In sentences and audit entries, and as the column of ``sessions`` that refers to it."""
    table: ClassVar[Table]

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._now = now
        self._cache = Cached(database, self._read)

    def all(self) -> tuple[Record, ...]:
        """Every record, by tenant and name."""
        return self._cache.get()

    def find(self, key: str) -> Record | None:
        """The record of one id."""
        return next((record for record in self.all() if self._object(record).id == key), None)

    def change(self, key: str, change: Callable[[Record], Record], who: str) -> Record:
        """Replace a record by ``change(record)`` in one transaction.

        Raises:
            NotFound: no record has this id.
            NameTaken: another one of the tenant has the new name.
            Whatever ``change`` and the check of the kind raise; then nothing was changed.
        """
        with self._writing() as connection:
            others = {self._object(record).id: record for record in self._read(connection)}
            old = others.pop(key, None)
            if old is None:
                raise NotFound(self.kind, key)
            new = self._following(old, change(old))
            if new == old:
                return old
            before, after = self._object(old), self._object(new)
            if after.name != before.name:
                check_name_free(connection, self.kind, after.tenant, after.name)
            self._check(connection, new, tuple(others.values()), old)
            self._update(connection, old, new)
            changes = self._changes(old, new)
            audit.write_entry(connection, self._now(), who, "changed", self._subject(old), changes)
        return new

    def delete(self, key: str, who: str) -> None:
        """Delete a record.

        Raises:
            NotFound: no record has this id.
            InUse: sessions refer to it, those that are still being deleted included.
        """
        with self._writing() as connection:
            row = connection.execute(select(self.table).filter_by(id=key)).one_or_none()
            if row is None:
                raise NotFound(self.kind, key)
            sessions = tables.sessions.c
            names = select(sessions.name).where(sessions[self.kind] == key).order_by(sessions.name)
            users = list(connection.execute(names).scalars())
            if users:
                raise InUse(self.kind, row.name, users)
            self._delete(connection, key)
            subject = Subject(self.kind, row.id, row.name, row.tenant)
            audit.write_entry(connection, self._now(), who, "deleted", subject, {})

    def _add(
        self,
        build: Callable[[Connection, datetime, Sequence[Record]], Record],
        who: str,
        idempotency_key: IdempotencyKey | None,
    ) -> Record:
        """Add the record that ``build`` makes of its time of creation and all other records."""
        now = self._now()
        with self._writing() as connection:
            others = self._read(connection)
            record = build(connection, now, others)
            new = self._object(record)
            take_key(connection, idempotency_key, new.id, new.tenant, now)
            check_name_free(connection, self.kind, new.tenant, new.name)
            self._check(connection, record, others)
            self._insert(connection, record)
            detail = self._detail(record)
            audit.write_entry(connection, now, who, "created", self._subject(record), detail)
        return record

    def _subject(self, record: Record) -> Subject:
        named = self._object(record)
        return Subject(self.kind, named.id, named.name, named.tenant)

    def _changes(self, old: Record, new: Record) -> dict[str, object]:
        """The detail of the audit entry of a change."""
        return changed_values(self._detail(old), self._detail(new))

    def _following(self, old: Record, new: Record) -> Record:
        """What replaces ``old`` if ``new`` is asked for."""
        return new

    @abstractmethod
    def _object(self, record: Record) -> NamedObject:
        """The named object of a record."""

    @abstractmethod
    def _detail(self, record: Record) -> dict[str, object]:
        """The detail of the audit entry of a creation."""

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A transaction that may change records."""
        with self._cache.writing() as connection:
            yield connection

    def _delete(self, connection: Connection, key: str) -> None:
        """Remove the rows of a record."""
        connection.execute(delete(self.table).filter_by(id=key))

    @abstractmethod
    def _check(
        self,
        connection: Connection,
        record: Record,
        others: Sequence[Record],
        old: Record | None = None,
    ) -> None:
        """Raise if a new or changed record (``old``, before) contradicts what else is stored."""

    @abstractmethod
    def _read(self, connection: Connection) -> tuple[Record, ...]:
        """Read all rows, by tenant and name."""

    @abstractmethod
    def _insert(self, connection: Connection, record: Record) -> None:
        """Write the rows of a new record."""

    @abstractmethod
    def _update(self, connection: Connection, old: Record, new: Record) -> None:
        """Replace the rows of a record."""
