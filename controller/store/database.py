"""One SQLite file: opened by one controller only, checked, and every fault told in a sentence."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, update
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from controller.runtime.blocking import apart
from controller.store import tables
from controller.store.errors import AlreadyRunning, NewerSchema, StoreError
from controller.store.migrations import upgrade

BUSY_S = 1.0
"""How long a change waits for another program that holds the file."""
ROOM_BYTES = 128 * 1024
"""Free space on the disk that changes need; a usual one writes less than half of it."""


class Database:
    """The file, its lock, and transactions on it. Any number of threads may use it.

    Raises:
        AlreadyRunning, NewerSchema, StoreError: when the directory or the file cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "state.db"
        self.problem = ""
        """Why the last change could not be stored; empty when it was."""
        self._writing = threading.Lock()
        self._is_closed = False
        self._lock = _lock_directory(directory)
        try:
            self.engine = self._open()
            with self._guarded():
                self._prepare()
            self.try_again()  # what is stored holds good, whatever comes of it
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Close the file and let another controller have it; nobody writes to it after that."""
        with self._writing:
            self._is_closed = True
            self.engine.dispose()
            self._lock.close()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent look at the whole database."""
        with self._guarded(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One change: all of it is on the disk when the block ends, or nothing of it."""
        with self._writing, self._guarded():
            if self._is_closed:  # another controller may have it by now
                raise StoreError(f"state database {self.path} is closed: the controller ends")
            # the lock of the file is taken at the beginning: a change never fails half-way for it
            engine = self.engine.execution_options(cloudtap_begin="BEGIN IMMEDIATE")
            with engine.begin() as connection:
                yield connection
            self.problem = ""

    def prove_writable(self) -> None:
        """Change what is there to what it is; raises StoreError when that fails.

        So small a change may fit where others do not, so there must be some more room.
        """
        with self.writing() as connection:
            connection.execute(update(tables.schema).values(version=tables.SCHEMA_VERSION))
        try:
            disk = os.statvfs(self.path.parent)
        except OSError as error:  # somebody took the folder away
            raise self._unusable(error) from error
        if disk.f_bavail * disk.f_frsize < ROOM_BYTES:
            raise self._unusable(OSError("the disk is full"))

    def try_again(self) -> None:
        """See whether changes can be stored now; ``problem`` says why not."""
        with suppress(StoreError):
            self.prove_writable()

    def _open(self) -> Engine:
        settings = {"timeout": BUSY_S, "factory": _File, "check_same_thread": False}
        engine = create_engine(
            f"sqlite:///{self.path}", connect_args=settings, pool_size=8, max_overflow=-1
        )
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        return engine

    def _prepare(self) -> None:
        engine = self.engine.execution_options(cloudtap_begin="BEGIN IMMEDIATE")
        with engine.begin() as connection:
            problem = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if problem != "ok":
                raise StoreError(self._damaged(" ".join(str(problem).split())))
            if not inspect(connection).has_table(tables.schema.name):
                tables.metadata.create_all(connection)
                connection.execute(insert(tables.schema).values(version=tables.SCHEMA_VERSION))
                return
            version = connection.execute(select(tables.schema.c.version)).scalar_one()
            if version < tables.SCHEMA_VERSION:
                upgrade(connection, version)
            if version > tables.SCHEMA_VERSION:
                raise NewerSchema(
                    f"state database {self.path} has schema {version}, and this cloudtap knows "
                    f"only up to {tables.SCHEMA_VERSION}: start the newer cloudtap, or name "
                    "another [state] directory"
                )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:  # about what is stored, not about where
            raise StoreError(self._sentence(error.orig or error)) from error
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else None
            raise self._unusable(cause or error) from error
        except sqlite3.Error as error:  # from the commands that set up a connection
            raise self._unusable(error) from error

    def _unusable(self, error: BaseException) -> StoreError:
        """The database cannot be used now, and who asks is told so until it can."""
        self.problem = self._sentence(error)
        if "readonly" in str(error):  # a connection that was opened so stays so
            self.engine.dispose()
        return StoreError(self.problem)

    def _sentence(self, error: BaseException) -> str:
        said = str(error)
        known = {
            "locked": f"is held by another program for more than {BUSY_S:g} s: close it, try again",
            "readonly": "cannot be written: check the owner and the mount of its folder",
            "full": "cannot grow: the disk is full; make room and try again",
            "disk I/O": "cannot be read or written: the disk reports an error; check it",
            "unable to open": "cannot be opened: check the owner of its folder and its free space",
        }
        if "malformed" in said or "not a database" in said:
            return self._damaged(said)
        for word, sentence in known.items():
            if word in said:
                return f"state database {self.path} {sentence} (nothing was changed)"
        return f"state database {self.path}: {said} (nothing was changed)"

    def _damaged(self, said: str) -> str:
        return (
            f"state database {self.path} is damaged ({said}): put a backup in its place, "
            "or move it away to begin with no sessions"
        )


class _File(sqlite3.Connection):
    """A connection to the file; nobody but who writes waits for the disk."""

    _kept = 0

    def commit(self) -> None:
        if self.total_changes == self._kept:
            super().commit()
            return
        apart(super().commit)
        self._kept = self.total_changes


def _lock_directory(directory: Path) -> IO[str]:
    """Hold the directory for this process; the system lets go when the process ends, however."""
    file = directory / "lock"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = file.open("a+")
    except OSError as error:
        raise StoreError(
            f"state directory {str(directory)!r} cannot be used: {error.strerror}; "
            "name another one in [state] directory"
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.seek(0)
        owner = held.read().strip() or "unknown"
        held.close()
        raise AlreadyRunning(
            f"another controller (pid {owner}) uses state directory {str(directory)!r}: "
            "stop it, or name another one in [state] directory"
        ) from error
    held.truncate(0)
    held.write(f"{os.getpid()}\n")
    held.flush()
    return held


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # transactions begin where _begin says, not where the sqlite3 module guesses
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql(options.get("cloudtap_begin", "BEGIN"))
