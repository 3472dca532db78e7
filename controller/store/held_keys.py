"""Tunnel keys at addresses that collectors have given up, and that bridges may still send with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, delete, select

from controller.store import tables
from controller.store.cache import Cached
from controller.store.database import Database


class HeldKeys:
    """Each is held for its tenant until bridges are known to have been told that it was given up.

    What is held has a number; a later one has a higher number, and no number is given twice. Every
    method may raise StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._cache = Cached(database, self._numbers)

    def last(self) -> int:
        """The number of the newest that is held; 0 if none is."""
        return max(self._cache.get(), default=0)

    def release(self, last: int) -> None:
        """Let others have what is held under numbers up to ``last``."""
        if not any(number <= last for number in self._cache.get()):
            return
        with self._cache.writing() as connection:
            connection.execute(delete(tables.held_keys).where(tables.held_keys.c.number <= last))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A transaction that may hold something is put into this."""
        with self._cache.changing():
            yield

    def _numbers(self, connection: Connection) -> frozenset[int]:
        return frozenset(connection.execute(select(tables.held_keys.c.number)).scalars())
