"""A part of the database in memory, read again only after it was changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from sqlalchemy import Connection

from controller.store.database import Database

T = TypeVar("T")


class Kept(Generic[T]):
    """What ``read`` finds in the database, as long as nobody changes it.

    Every change of that part goes through ``writing``: nobody else writes the file. While a change
    is under way everybody reads the database. Both methods may raise StoreError.
    """

    def __init__(self, database: Database, read: Callable[[Connection], T]) -> None:
        self._database, self._read = database, read
        self._lock = threading.Lock()
        self._changing = self._changes = 0
        self._held: tuple[T] | None = None

    def get(self) -> T:
        """What is stored now."""
        with self._lock:
            if self._held is not None:
                return self._held[0]
            changes = self._changes
        with self._database.reading() as connection:
            found = self._read(connection)
        with self._lock:
            if changes == self._changes and not self._changing:
                self._held = (found,)
        return found

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A change of the database (see Database.writing) after which it is read again."""
        with self._lock:
            self._changing, self._held = self._changing + 1, None
        try:
            with self._database.writing() as connection:
                yield connection
        finally:
            with self._lock:
                self._changing, self._changes = self._changing - 1, self._changes + 1
