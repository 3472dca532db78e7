"""What a state database knows of bridges: which numbers they have, and what was seen of them.

A restore sets back what users want. It cannot set back what bridges have: one that is away goes on
with the numbers that it was given, so none of them may be given to something else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from netaddr import IPAddress
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError

from controller.store import tables
from controller.store.database import check_header, reading_up_to_date
from controller.store.errors import StoreError
from controller.store.held_keys import hold, read_held
from flows.model import KINDS_OF_TENANTS, NUMBER_RANGES, Delivery, KeyUse, TenantName, key_space

_SEEN = (
    *(tables.installed_sessions, tables.bridges, tables.speakers),
    *(tables.placements, tables.places),
)
"""Tables of what was seen of bridges, those that others refer to before these."""
_KEPT = (*_SEEN, tables.numbers, tables.last_numbers)

_Books = dict[str, dict[str, int]]
"""Numbers by kind and name."""


@dataclass(frozen=True)
class Observed:
    """What one database knows of bridges."""

    numbers: _Books
    tenants: Mapping[str, Mapping[str, str]]
    """Whose numbers are, by kind and name, where the name does not say it."""
    last: Mapping[str, int]
    """By kind, the number after which new ones are given."""
    seen: Mapping[str, list[dict[str, Any]]]
    """The rows of what was seen, by table."""
    keys: frozenset[KeyUse]
    """Tunnel keys that bridges may send with: those of collectors, and those that are held."""


def find_observed(file: Path) -> Observed | None:
    """What the database in ``file`` knows of bridges; None if it is missing or cannot be used."""
    if not file.exists():
        return None
    try:
        check_header(file)
        with reading_up_to_date(file) as connection:
            return _read(connection)
    except (StoreError, UnicodeDecodeError, SQLAlchemyError, sqlite3.Error):
        return None


def keep_observed(connection: Connection, now: Observed) -> None:
    """Put what is known now into a backup that was restored.

    What only the backup has a number for keeps it if it is free. Otherwise it gets a new one when
    it is asked for, a session at once, because it goes on to count.
    """
    backup = _read(connection)
    books = {kind: dict(now.numbers[kind]) for kind in NUMBER_RANGES}
    tenants = {kind: {**backup.tenants[kind], **now.tenants[kind]} for kind in NUMBER_RANGES}
    last = {
        kind: max(now.last.get(kind, 0), backup.last.get(kind, 0))
        for kind in {*now.last, *backup.last}
    }
    for kind, book in backup.numbers.items():
        mine = books[kind]
        taken = set(mine.values())
        is_old = any("/" not in key for key in mine)
        for key, number in book.items():
            if kind in KINDS_OF_TENANTS and (is_old or "/" not in key) and key not in mine:
                key = f"/{key}"  # whose it is cannot be compared: nobody's, and taken
            if key in mine:
                continue
            if kind == "session" and number in taken:
                number = last[kind] = _next_free(kind, taken, last.get(kind, 0))
            if number and number not in taken:
                mine[key] = number
                taken.add(number)
    rows = dict(now.seen)
    rows[tables.numbers.name] = [
        {"kind": kind, "key": key, "number": number, "tenant": tenants[kind].get(key, "")}
        for kind, book in books.items()
        for key, number in book.items()
    ]
    rows[tables.last_numbers.name] = [{"kind": kind, "number": n} for kind, n in last.items()]
    for table in reversed(_KEPT):
        connection.execute(delete(table))
    for table in _KEPT:
        if rows[table.name]:
            connection.execute(insert(table), rows[table.name])
    hold(connection, now.keys)


def _next_free(kind: str, taken: set[int], last: int) -> int:
    """The first free number after the last one, then from the start; 0 if there is none."""
    numbers = NUMBER_RANGES[kind]
    offered = chain(range(last + 1, numbers.stop), numbers)
    return next((number for number in offered if number not in taken), 0)


def _read(connection: Connection) -> Observed:
    numbers: _Books = {kind: {} for kind in NUMBER_RANGES}
    tenants: dict[str, dict[str, str]] = {kind: {} for kind in NUMBER_RANGES}
    for kind, key, number, tenant in connection.execute(select(tables.numbers)):
        numbers[kind][key] = number
        tenants[kind][key] = tenant
    ends = connection.execute(select(tables.last_numbers))
    last = {row.kind: row.number for row in ends}
    seen = {
        table.name: [dict(row._mapping) for row in connection.execute(select(table))]
        for table in _SEEN
    }
    keys = frozenset(read_held(connection)) | _keys_in_use(connection)
    return Observed(numbers, tenants, last, seen, keys)


def _keys_in_use(connection: Connection) -> frozenset[KeyUse]:
    """The key of each collector at each of its addresses."""
    columns = tables.collectors.c
    query = (
        select(columns.tenant, columns.delivery, columns.key, tables.sensors.c.item)
        .join(tables.sensors, tables.sensors.c.collector == columns.id)
        .where(columns.delivery != Delivery.PORT.value, columns.key.is_not(None))
    )
    return frozenset(
        KeyUse(TenantName(tenant), key_space(Delivery(delivery)), key, IPAddress(address))
        for tenant, delivery, key, address in connection.execute(query)
    )
