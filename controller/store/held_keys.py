"""Tunnel keys at addresses that collectors have given up, as rows of the database.

Each is held for its tenant until bridges are known to have been told that it was given up. What is
held has a number; a later one has a higher number, and no number is given twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from netaddr import IPAddress
from sqlalchemy import Connection, delete, insert, select

from controller.store import tables
from controller.store.content_check import reading_rows
from flows.model import Delivery, KeyUse, TenantName


def hold(connection: Connection, uses: Iterable[KeyUse]) -> None:
    """Hold what is given up, under new numbers even if it is held already."""
    rows = [
        {
            "tenant": use.tenant,
            "delivery": use.space.value,
            "key": use.key,
            "address": str(use.address),
        }
        for use in sorted(uses, key=lambda use: (use.key, use.address))
    ]
    if rows:
        connection.execute(insert(tables.held_keys).prefix_with("OR REPLACE"), rows)


def read_held(connection: Connection) -> tuple[KeyUse, ...]:
    """Everything that is held."""
    found = []
    for row in connection.execute(select(tables.held_keys).order_by(tables.held_keys.c.number)):
        with reading_rows(f"held key {row.number}"):
            tenant, space = TenantName(row.tenant), Delivery(row.delivery)
            found.append(KeyUse(tenant, space, row.key, IPAddress(row.address)))
    return tuple(found)


def held_numbers(connection: Connection) -> frozenset[int]:
    """The numbers of everything that is held."""
    return frozenset(connection.execute(select(tables.held_keys.c.number)).scalars())


def release_held(connection: Connection, last: int) -> None:
    """Let others have what is held under numbers up to ``last``."""
    connection.execute(delete(tables.held_keys).where(tables.held_keys.c.number <= last))
