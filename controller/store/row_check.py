"""Makes a value of every row of a state database once: what cannot be used is found now.

A start does this before anything is decided, and a backup and a restore before anything is changed:
what a restore accepts, a start can use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from sqlalchemy import Connection

from controller.store import tables
from controller.store.collectors import read_collectors
from controller.store.content_check import read_time, reading_rows
from controller.store.filters import read_filters
from controller.store.held_keys import read_held
from controller.store.session_rows import read_sessions

ROWS_AT_ONCE = 1000
"""Rows that are in memory together: there may be very many."""
SHOWN = 80
"""Characters of a value that are shown of it."""


def check_rows(
    connection: Connection, filters: Callable[[Connection], object] = read_filters
) -> None:
    """Read every row of every table, after ``check_content``. Parsing takes long, so ``filters``
    may be a reader that keeps what it has parsed.

    Raises:
        BadContent: one is not as it must be.
    """
    for name, table in tables.metadata.tables.items():
        if table in (tables.audit, tables.idempotency_keys):
            continue
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        with reading_rows(f"table {name!r}"):
            found = connection.exec_driver_sql(f"SELECT {columns} FROM {name}")
            while found.fetchmany(ROWS_AT_ONCE):
                pass
    read_sessions(connection)
    read_collectors(connection)
    filters(connection)
    read_held(connection)
    with reading_rows("the audit log"):
        _check_audit(connection)
    with reading_rows("an Idempotency-Key"):
        query = "SELECT at, key, digest, object_id, tenant, coalesce(answer, '') FROM once"
        for at, *texts in connection.exec_driver_sql(query):
            _check_texts(texts)
            read_time(at)


def _check_audit(connection: Connection) -> None:
    """Read the audit log once: it may be the largest table by far."""
    query = "SELECT at, detail, who, what, kind, id, name, tenant FROM audit"
    for at, detail, *texts in connection.exec_driver_sql(query):
        _check_texts(texts)
        read_time(at)
        if not isinstance(json.loads(detail), dict):
            raise ValueError(f"{detail[:SHOWN]!r} is no object of JSON")


def _check_texts(values: Iterable[object]) -> None:
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"{str(value)[:SHOWN]} is no text")
