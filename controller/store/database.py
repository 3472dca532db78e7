"""The SQLite file: checked when it is opened, transactions on it, and its errors as sentences."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import (
    Connection,
    Engine,
    QueuePool,
    create_engine,
    event,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from controller.process import sync_folder, visible
from controller.runtime import run_blocking
from controller.store import tables
from controller.store.content_check import check_content
from controller.store.directory import JOURNAL, Presence, StateDirectory
from controller.store.errors import BadContent, NewerSchema, StoreError
from controller.store.gap import begin_after_a_gap
from controller.store.migrations import upgrade

BUSY_S = 1.0
"""How long a write waits for another program that has locked the file, in seconds."""
ROOM_BYTES = 128 * 1024
"""Free space on the disk that writes need, in bytes; a usual one writes less than half of it."""
APPLICATION_ID = 0x636C7470
"""In the header of a state database (``PRAGMA application_id``), "cltp": it is one of ours."""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES, _APPLICATION_ID_AT = 100, 68


class Database:
    """The file, its lock, and transactions on it. Any number of threads may call it.

    Raises:
        AlreadyRunning, NewerSchema, StoreError: when the directory or the file cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self.problem = ""
        """Why the last change could not be stored; empty when it was."""
        self._writing = threading.Lock()
        self._is_closed = False
        self._directory = StateDirectory(directory)
        self.path = self._directory.database
        try:
            with self._guarded():
                check_header(self.path) if self._exists() else self._create()
                self.engine = open_engine(self.path)
                self._prepare()
                self._anchor = _anchor(self.path)
            self._presence = Presence(self.path)
            self.try_again()  # a database that can only be read is still used
        except BaseException:
            self._directory.unlock()
            raise

    def close(self) -> None:
        """Close the file and release its lock; later writes raise StoreError."""
        with self._writing:
            self._is_closed = True
            self.engine.dispose()
            self._anchor.close()
            self._directory.unlock()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read transaction: one consistent snapshot of the database."""
        with self._guarded(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction: durable when the block ends, rolled back if it raises."""
        with self._writing, self._guarded():
            self.check_open()
            # takes the write lock at once, so that a transaction cannot fail for it half-way
            self._check_present()
            engine = self.engine.execution_options(cloudtap_begin="BEGIN IMMEDIATE")
            with engine.begin() as connection:
                yield connection
                self._check_present()  # before the commit
            self._check_present()
            self.problem = ""

    def check_open(self) -> None:
        """Raise StoreError if it was closed: another controller may have it by now."""
        if self._is_closed:
            raise StoreError(f"state database {self.path} is closed: the controller ends")

    def prove_writable(self) -> None:
        """Write one row and check the free space; raises StoreError if a write would fail now.

        One row may fit where other writes do not: ROOM_BYTES must be free, too.
        """
        with self.writing() as connection:
            connection.execute(update(tables.schema).values(version=tables.SCHEMA_VERSION))
        try:
            disk = os.statvfs(self.path.parent)
        except OSError as error:  # for example, the directory was removed
            raise self._unusable(error) from error
        if disk.f_bavail * disk.f_frsize < ROOM_BYTES:
            raise self._unusable(OSError("the disk is full"))

    def is_present(self) -> bool:
        """Whether the file is still where it was opened; sets ``problem`` if it is not."""
        with suppress(StoreError):
            self._check_present()
            return True
        return False

    def try_again(self) -> None:
        """Find out whether writes are possible now, and set ``problem``."""
        with suppress(StoreError):
            self.prove_writable()

    def _check_present(self) -> None:
        if not self._presence.is_kept():
            self.problem = (
                f"state database {self.path} was removed or replaced while the controller runs: "
                "put it back, or restart the controller (nothing was changed)"
            )
            raise StoreError(self.problem)
        try:
            self._directory.check_lock()
        except StoreError as error:
            self.problem = str(error)
            raise

    def _exists(self) -> bool:
        """Whether there is a database; never takes the rest of one for a new beginning."""
        if os.path.lexists(self.path):
            return True
        left = self._directory.files()
        if left:
            raise StoreError(
                f"state database {self.path} is missing, and {left[0].name} of it is there: put "
                "both back, or move that away too to begin with no sessions"
            )
        return False

    def _create(self) -> None:
        """Make an empty database, whole or not at all."""
        new = self.path.with_name(f"{self.path.name}.new")
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{new}{end}").unlink(missing_ok=True)
        try:
            os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            engine = open_engine(new)
            with engine.begin() as connection:
                tables.metadata.create_all(connection)
                connection.execute(insert(tables.schema).values(version=tables.SCHEMA_VERSION))
                if os.path.lexists(self.path.with_name(JOURNAL)):
                    begin_after_a_gap(connection)  # one was moved away: bridges have its numbers
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            engine.dispose()  # the last connection brings the write-ahead log into the file
            new.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise self._unusable(error) from error

    def _prepare(self) -> None:
        engine = self.engine.execution_options(cloudtap_begin="BEGIN IMMEDIATE")
        with engine.begin() as connection:
            try:
                bring_up_to_date(connection, self.path)
            except BadContent as error:
                raise StoreError(self._damaged(str(error))) from error
        with suppress(SQLAlchemyError), engine.begin() as connection:
            if _application_id(connection) != APPLICATION_ID:  # of an earlier cloudtap
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (BadContent, UnicodeDecodeError) as error:
            raise StoreError(self._damaged(str(error))) from error
        except IntegrityError as error:  # a violated constraint, not a problem of the file
            raise StoreError(self._sentence(error.orig or error)) from error
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else None
            raise self._unusable(cause or error) from error
        except OverflowError as error:  # SQLite stores integers of 64 bits
            raise StoreError(self._sentence(error)) from error
        except sqlite3.Error as error:  # from the commands that set up a connection
            raise self._unusable(error) from error

    def _unusable(self, error: BaseException) -> StoreError:
        """The error for this cause, which is also kept as ``problem`` until a write succeeds."""
        self.problem = self._sentence(error)
        if "readonly" in str(error):  # open connections stay read-only
            self.engine.dispose()
        return StoreError(self.problem)

    def _sentence(self, error: BaseException) -> str:
        cause = str(error)
        known = {
            "locked": f"is held by another program for more than {BUSY_S:g} s: close it, try again",
            "readonly": "cannot be written: check the owner and the mount of its folder",
            "full": "cannot grow: the disk is full; make room and try again",
            "disk I/O": "cannot be read or written: the disk reports an error; check it",
            "unable to open": "cannot be opened: check the owner of its folder and its free space",
        }
        if "malformed" in cause or "not a database" in cause:
            return self._damaged(cause)
        for word, sentence in known.items():
            if word in cause:
                return f"state database {self.path} {sentence} (nothing was changed)"
        return f"state database {self.path}: {visible(cause)} (nothing was changed)"

    def _damaged(self, cause: str) -> str:
        return damaged(self.path, cause)


class _File(sqlite3.Connection):
    """A connection whose commits wait for the disk in a thread of their own (see blocking)."""

    _committed_changes = 0

    def commit(self) -> None:
        if self.total_changes == self._committed_changes:
            super().commit()
            return
        run_blocking(super().commit)
        self._committed_changes = self.total_changes


def damaged(path: Path, cause: str) -> str:
    """The sentence about a database that cannot be trusted."""
    shown = visible(" ".join(cause.split()))
    return (
        f"state database {path} is damaged ({shown}): put a backup in its place with `cloudtap "
        "restore FILE`, or move it away to begin with no sessions"
    )


def newer_schema(path: Path, version: int) -> str:
    """The sentence about a database of a newer cloudtap."""
    return (
        f"state database {path} has schema {version}, and this cloudtap knows only up to "
        f"{tables.SCHEMA_VERSION}: start the newer cloudtap, or name another [state] directory"
    )


def check_header(path: Path) -> None:
    """Refuse a file that is no database of ours, before SQLite changes anything in it.

    Raises:
        BadContent: it is empty, or begins with something else.
        StoreError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            begin = stream.read(_HEADER_BYTES)
    except OSError as error:
        raise StoreError(f"state database {path} cannot be opened: {error.strerror}") from error
    if not begin:
        raise BadContent("the file is empty")
    if begin[: len(_MAGIC)] != _MAGIC:
        raise BadContent("file is not a database")
    if len(begin) < _HEADER_BYTES:
        raise BadContent("the file is cut off")
    made_by = int.from_bytes(begin[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4])
    if made_by not in (0, APPLICATION_ID):
        raise BadContent("another program has made it")
    if not made_by and not _has_schema_table(path):
        raise BadContent("it has no table of cloudtap")


def check_whole(connection: Connection) -> None:
    """Check pages, indexes and references of a database, and that it is one of ours.

    Raises:
        BadContent: something is broken, or another program has made it.
    """
    found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    if found != "ok":
        raise BadContent(str(found))
    if _application_id(connection) not in (0, APPLICATION_ID):
        raise BadContent("another program has made it")
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise BadContent(f"row {broken[1]} of table {broken[0]!r} refers to nothing")


def schema_version(connection: Connection) -> int:
    """The version of the schema of a database.

    Raises:
        BadContent: it has none.
    """
    if not inspect(connection).has_table(tables.schema.name):
        raise BadContent("it has no table of cloudtap")
    versions = [row[0] for row in connection.execute(select(tables.schema.c.version))]
    if len(versions) != 1 or not isinstance(versions[0], int) or versions[0] < 1:
        raise BadContent(f"its schema version is {versions!r}")
    return versions[0]


def bring_up_to_date(connection: Connection, path: Path) -> None:
    """Check all of a database, and migrate it to the current schema, in one transaction.

    Raises:
        NewerSchema: a newer cloudtap has written it; ``path`` is named.
        BadContent: something in it is not as it must be.
    """
    check_whole(connection)
    version = schema_version(connection)
    if version > tables.SCHEMA_VERSION:
        raise NewerSchema(newer_schema(path, version))
    if version < tables.SCHEMA_VERSION:
        upgrade(connection, version)
    check_content(connection)


@contextmanager
def reading_up_to_date(path: Path, shown: Path | None = None) -> Iterator[Connection]:
    """A database as a start of the controller would find and migrate it; the file stays as it is.

    Raises:
        NewerSchema, BadContent: see bring_up_to_date; ``shown`` is named instead of ``path``.
    """
    engine = open_engine(path)
    try:
        with engine.connect() as connection:
            bring_up_to_date(connection, shown or path)
            yield connection
            connection.rollback()
    finally:
        engine.dispose()


def _has_schema_table(path: Path) -> bool:
    """Whether a database that does not say who made it may be of an earlier cloudtap."""
    try:
        with closing(sqlite3.connect(_uri(path, "ro"), uri=True)) as connection:
            query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema'"
            return connection.execute(query).fetchone() is not None
    except sqlite3.Error:
        return True  # the checks that follow find out more


def _application_id(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA application_id").scalar_one())


def _anchor(path: Path) -> sqlite3.Connection:
    """A connection that stays open: SQLite removes the write-ahead log with the last one."""
    anchor = sqlite3.connect(_uri(path, "rw"), uri=True, check_same_thread=False)
    anchor.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return anchor


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path))}?mode={mode}"


def open_engine(path: Path) -> Engine:
    """Connections to a file that exists: mode `rw` makes no new one in place of a removed one."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            _uri(path, "rw"), uri=True, timeout=BUSY_S, factory=_File, check_same_thread=False
        )

    engine = create_engine(
        "sqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=-1
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # the sqlite3 module must not begin transactions by itself: _begin does
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql(options.get("cloudtap_begin", "BEGIN"))
