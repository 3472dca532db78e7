"""Idempotency keys: which requests were carried out already, and what was answered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from controller.store import tables
from controller.store.content_check import read_time
from controller.store.database import Database
from controller.store.errors import Repeated
from controller.store.values import IdempotencyKey

IDEMPOTENCY_KEY_RETENTION = timedelta(hours=24)
"""How long a key is retained: a repeated request within this time is not carried out again."""
KEYS_MAX = 1000
"""Most keys of one tenant that are retained: a newer one takes the place of the oldest."""
ANSWER_MAX = 16 * 1024
"""Longest answer that is stored, in characters."""


class IdempotencyRepository:
    """Keys of earlier requests. Every method may raise StoreError.

    One tenant has at most KEYS_MAX keys with answers of ANSWER_MAX, whatever the others do.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def find(self, key: str) -> Repeated | None:
        """The result of the request that used this key first, while the key is retained."""
        with self._database.reading() as connection:
            return _find(connection, key, self._now())

    def save_answer(self, key: str, answer: str) -> None:
        """Store the answer to the request with this key, for its repetitions, unless it is long."""
        if len(answer) > ANSWER_MAX:
            return
        with self._database.writing() as connection:
            statement = update(tables.idempotency_keys).filter_by(key=key)
            connection.execute(statement.values(answer=answer))


def take_key(
    connection: Connection,
    request: IdempotencyKey | None,
    object_id: str,
    tenant: str,
    now: datetime,
) -> None:
    """Store the key of a request, if it has one, and the id of the tenant's object that it creates.

    Part of the caller's transaction, which also deletes the keys that are no longer retained.

    Raises:
        Repeated: the key was used before.
    """
    if request is None:
        return
    found = _find(connection, request.key, now)
    if found is not None:
        raise found
    oldest = (now - IDEMPOTENCY_KEY_RETENTION).isoformat()
    keys = tables.idempotency_keys
    connection.execute(delete(keys).where(keys.c.at < oldest))
    newest_first = select(keys.c.key).filter_by(tenant=tenant).order_by(keys.c.at.desc())
    surplus = newest_first.offset(KEYS_MAX - 1)
    connection.execute(delete(keys).where(keys.c.key.in_(surplus)))
    connection.execute(
        insert(keys).values(
            key=request.key,
            digest=request.digest,
            object_id=object_id,
            at=now.isoformat(),
            tenant=tenant,
        )
    )


def _find(connection: Connection, key: str, now: datetime) -> Repeated | None:
    row = connection.execute(select(tables.idempotency_keys).filter_by(key=key)).one_or_none()
    if row is None or read_time(row.at) < now - IDEMPOTENCY_KEY_RETENTION:
        return None
    return Repeated(row.digest, row.object_id, row.answer)
