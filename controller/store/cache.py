"""A query result in memory, valid until the next write to its tables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from sqlalchemy import Connection

from controller.store.database import Database

Value = TypeVar("Value")


class Cached(Generic[Value]):
    """The result of ``read``, cached until its tables are written through ``writing``.

    Only this process writes the database, and every write to these tables must go through
    ``writing`` or inside of ``changing``. During a write nothing is cached: every ``get`` reads the
    database. ``get`` and ``writing`` may raise StoreError.
    """

    def __init__(self, database: Database, read: Callable[[Connection], Value]) -> None:
        self._database, self._read = database, read
        self._lock = threading.Lock()
        self._writers = self._writes = 0
        self._cached: tuple[Value] | None = None

    def get(self) -> Value:
        """The committed value."""
        with self._lock:
            if self._cached is not None:
                return self._cached[0]
            writes = self._writes
        with self._database.reading() as connection:
            found = self._read(connection)
        with self._lock:
            # a write that ended or is open may have overtaken this read
            if writes == self._writes and not self._writers:
                self._cached = (found,)
        return found

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction (see Database.writing) that invalidates the cached value."""
        with self.changing(), self._database.writing() as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[None]:
        """What a transaction that was begun elsewhere is put into, to invalidate the value."""
        with self._lock:
            self._writers, self._cached = self._writers + 1, None
        try:
            yield
        finally:
            with self._lock:
                self._writers, self._writes = self._writers - 1, self._writes + 1
