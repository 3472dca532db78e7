"""The audit log: who changed which object, when and how."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, Row, insert, select

from controller.store import tables
from controller.store.content_check import read_time, reading_rows
from controller.store.database import Database
from controller.store.values import AuditedAction, AuditedKind, AuditEntry
from flows.model import Session

AuditedText = Literal["who", "name"]
"""A column of the audit log that holds a text which no list of words limits."""

KNOWN_MAX = 10_000
"""Most different texts of a column that are read, to say which one may have been meant."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an audit entry is about; a bridge has no tenant."""

    kind: AuditedKind
    id: str
    name: str
    tenant: str = ""


class AuditRepository:
    """Every audit entry. Entries of changes are written by the transaction of the change.

    Every method may raise StoreError.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def add(
        self, session: Session, who: str, what: AuditedAction, detail: Mapping[str, object]
    ) -> None:
        """Record an action on a session that changes no other row, for example a verification."""
        with self._database.writing() as connection:
            write_entry(connection, self._now(), who, what, subject_of(session), detail)

    def note_inventory(self, digest: str, who: str, detail: Mapping[str, object]) -> None:
        """Record that an inventory file with this digest was accepted."""
        with self._database.writing() as connection:
            subject = Subject("inventory", digest, digest)
            write_entry(connection, self._now(), who, "accepted", subject, detail)

    def entries(
        self, filters: Mapping[str, str] | None = None, before: int | None = None, limit: int = 100
    ) -> tuple[AuditEntry, ...]:
        """Entries, newest first, older than number ``before``.

        ``filters`` are exact values of who, what, kind, id, name or tenant.
        """
        query = select(tables.audit).filter_by(**(filters or {}))
        query = query.order_by(tables.audit.c.number.desc())
        if before is not None:
            query = query.where(tables.audit.c.number < before)
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(limit)).all()
            with reading_rows("the audit log"):
                return tuple(_entry(row) for row in rows)

    def known(self, column: AuditedText, tenant: str | None = None) -> tuple[str, ...]:
        """The values that entries (of a tenant) have in a column, each once, at most KNOWN_MAX."""
        chosen = tables.audit.c[column]
        query = select(chosen).where(chosen != "").distinct()
        if tenant is not None:
            query = query.filter_by(tenant=tenant)
        query = query.limit(KNOWN_MAX)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            with reading_rows("the audit log"):
                return tuple(value for (value,) in rows)


def write_entry(
    connection: Connection,
    at: datetime,
    who: str,
    what: AuditedAction,
    subject: Subject,
    detail: Mapping[str, object],
) -> None:
    """Write one entry as part of the caller's transaction."""
    connection.execute(
        insert(tables.audit),
        {
            "at": at.isoformat(),
            "who": who,
            "what": what,
            "kind": subject.kind,
            "id": subject.id,
            "name": subject.name,
            "tenant": subject.tenant,
            "detail": json.dumps(detail),
        },
    )


def subject_of(session: Session) -> Subject:
    """A session as the subject of an entry."""
    return Subject("session", session.id, session.name, session.tenant)


def changed_values(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    """The detail of a change: the new value of each key whose value differs."""
    return {key: after[key] for key in after if after[key] != before[key]}


def _entry(row: Row[tuple[object, ...]]) -> AuditEntry:
    return AuditEntry(
        number=row.number,
        at=read_time(row.at),
        who=row.who,
        what=row.what,
        kind=row.kind,
        id=row.id,
        name=row.name,
        tenant=row.tenant,
        detail=json.loads(row.detail),
    )
