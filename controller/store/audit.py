"""The audit journal, and the keys of requests that must count once; written with each change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from controller.store import tables
from controller.store.errors import Repeated
from controller.store.values import AuditEntry, OnceKey

ONCE_KEPT = timedelta(hours=24)
"""How long the key of a request is remembered."""


def write_entry(
    connection: Connection,
    at: datetime,
    who: str,
    what: str,
    thing: tuple[str, str, str, str],
    detail: Mapping[str, object],
) -> None:
    """Note one change; ``thing`` is kind, id, name and tenant of the object."""
    kind, key, name, tenant = thing
    connection.execute(
        insert(tables.audit),
        {
            "at": at.isoformat(),
            "who": who,
            "what": what,
            "kind": kind,
            "id": key,
            "name": name,
            "tenant": tenant,
            "detail": json.dumps(detail),
        },
    )


def read_entries(
    connection: Connection, filters: Mapping[str, str], before: int | None, limit: int
) -> tuple[AuditEntry, ...]:
    """The newest entries first, older than number ``before``, with these values of columns."""
    query = select(tables.audit).filter_by(**filters).order_by(tables.audit.c.number.desc())
    if before is not None:
        query = query.where(tables.audit.c.number < before)
    return tuple(
        AuditEntry(
            number=row.number,
            at=datetime.fromisoformat(row.at),
            who=row.who,
            what=row.what,
            kind=row.kind,
            id=row.id,
            name=row.name,
            tenant=row.tenant,
            detail=json.loads(row.detail),
        )
        for row in connection.execute(query.limit(limit))
    )


def find_key(connection: Connection, key: str, now: datetime) -> Repeated | None:
    """What the request that used this key first has led to."""
    row = connection.execute(select(tables.once).filter_by(key=key)).one_or_none()
    if row is None or datetime.fromisoformat(row.at) < now - ONCE_KEPT:
        return None
    return Repeated(row.digest, row.object_id, row.answer)


def take_key(connection: Connection, once: OnceKey, object_id: str, now: datetime) -> None:
    """Note the key with the object that it makes.

    Raises:
        Repeated: when the key was used before.
    """
    found = find_key(connection, once.key, now)
    if found is not None:
        raise found
    oldest = (now - ONCE_KEPT).isoformat()
    connection.execute(delete(tables.once).where(tables.once.c.at < oldest))
    connection.execute(
        insert(tables.once).values(
            key=once.key, digest=once.digest, object_id=object_id, at=now.isoformat()
        )
    )


def write_answer(connection: Connection, key: str, answer: str) -> None:
    """Keep the answer, to be given again."""
    connection.execute(update(tables.once).filter_by(key=key).values(answer=answer))
