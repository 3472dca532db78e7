"""Backup and restore of the state database, as whole files that were checked.

A copy of the file alone lacks what is still in the write-ahead log: deleted sessions would be
back. SQLite's own backup reads both, page by page, also while a controller writes.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from controller.process import sync_folder, visible
from controller.store.database import (
    APPLICATION_ID,
    check_header,
    open_engine,
    reading_up_to_date,
    schema_version,
)
from controller.store.directory import COMPANIONS, STATE_DB, locked
from controller.store.errors import BadContent, StoreError
from controller.store.gap import begin_after_a_gap
from controller.store.migrations import upgrade
from controller.store.observed import Observed, find_observed, keep_observed

PAGES = 256
"""Pages that are copied at once: a controller that writes waits for no longer than that."""
BEFORE = f"{STATE_DB}.before-restore"
"""What a restore has replaced, in the state directory."""


def back_up(directory: Path, file: Path) -> int:
    """Copy the state database in ``directory`` to a new ``file``; returns its number of sessions.

    A controller may run meanwhile: the copy is of one moment.

    Raises:
        StoreError: there is no database, it is damaged, or the file exists or cannot be written.
    """
    source = directory / STATE_DB
    if not source.exists():
        raise StoreError(
            f"there is no state database {source}: name its folder in [state] directory"
        )
    _check_header(source)
    if os.path.lexists(file):
        raise StoreError(f"{file} exists: name a new file, or remove it")
    with _new_file(file, Path.replace) as new:
        _copy(source, new, "rw")
        count = _check(new, source)
        _close_log(new)
    return count


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has done.

    ``knows_numbers`` says whether the numbers that were given after the backup are known.
    """

    sessions: int
    knows_numbers: bool


def restore(directory: Path, file: Path) -> Restored:
    """Put a backup in the place of the state database.

    What was there is kept beside it as BEFORE. What it knew of bridges is still true, so it stays:
    their numbers above all. If it is missing or cannot be used, new numbers begin after a gap.

    Raises:
        AlreadyRunning: a controller uses the directory.
        NewerSchema, StoreError: the backup cannot be used; then nothing was changed.
    """
    if not file.is_file():
        raise StoreError(f"{file} is not a file: name a file that `cloudtap backup` has written")
    _check_header(file)
    with locked(directory) as state, _new_file(state.database, _exchange) as new:
        _copy(file, new, "ro")
        count = _check(new, file)
        now = find_observed(state.database)
        _keep(new, now, file)
        return Restored(count, now is not None)


def _check_header(file: Path) -> None:
    try:
        check_header(file)
    except BadContent as error:
        raise StoreError(_unusable(file, str(error))) from error


def _check(copy: Path, file: Path) -> int:
    """Check a copy as a start of the controller does; returns its number of sessions.

    Raises:
        NewerSchema, StoreError: ``file``, of which it is a copy, cannot be used.
    """
    try:
        with reading_up_to_date(copy, file) as connection:
            query = "SELECT count(*) FROM sessions WHERE NOT deleting"
            return int(connection.exec_driver_sql(query).scalar_one())
    except (BadContent, UnicodeDecodeError, SQLAlchemyError) as error:
        raise StoreError(_unusable(file, str(error))) from error


def _keep(copy: Path, now: Observed | None, file: Path) -> None:
    """Put what is known of bridges now into a copy of ``file``, which is one file afterwards."""
    engine = open_engine(copy)
    try:
        with engine.begin() as connection:
            upgrade(connection, schema_version(connection))
            if now is None:
                begin_after_a_gap(connection)
            else:
                keep_observed(connection, now)
        engine.dispose()
        _close_log(copy)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(_unusable(file, str(error))) from error
    finally:
        engine.dispose()


def _unusable(file: Path, cause: str) -> str:
    shown = visible(" ".join(cause.split()))
    return f"{file} is no state database that can be used ({shown}): nothing was changed"


def _copy(source: Path, target: Path, mode: str) -> None:
    """Copy a database, and what its write-ahead log holds, into an empty file."""
    uri = f"{source.absolute().as_uri()}?mode={mode}"
    try:
        with (
            closing(sqlite3.connect(uri, uri=True)) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new, pages=PAGES)
            new.execute(f"PRAGMA application_id={APPLICATION_ID}")
            new.commit()
    except sqlite3.Error as error:
        raise StoreError(_unusable(source, str(error))) from error


def _close_log(file: Path) -> None:
    """Make a database one file that can be read anywhere, also where nothing can be written."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


@contextmanager
def _new_file(file: Path, put: Callable[[Path, Path], object]) -> Iterator[Path]:
    """A file beside ``file`` that is on the disk, and ``put`` in its place, when the block ends.

    If anything fails it is removed.
    """
    new = file.with_name(f"{file.name}.part")
    try:
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(new, flags, 0o600))
        yield new
        with new.open("rb") as stream:
            os.fsync(stream.fileno())
        put(new, file)
        sync_folder(file.parent)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        for end in ("", *COMPANIONS):
            with suppress(OSError):
                Path(f"{new}{end}").unlink(missing_ok=True)


def _exchange(new: Path, database: Path) -> None:
    """Put a new database in the place of one that is kept as BEFORE, with what belongs to it.

    At every moment one of the two is in that place, so no start finds nothing there and begins
    with no sessions. If it fails, the old one is there as before.
    """
    before = database.with_name(BEFORE)
    for end in ("", *COMPANIONS):
        Path(f"{before}{end}").unlink(missing_ok=True)
    if database.exists():
        try:
            os.link(database, before)
        except OSError:  # a file system without hard links
            shutil.copy(database, before)
    moved: list[tuple[Path, Path]] = []
    try:
        for end in COMPANIONS:  # of the old one: SQLite would take them for those of the new one
            old, kept = Path(f"{database}{end}"), Path(f"{before}{end}")
            if old.exists():
                old.rename(kept)
                moved.append((kept, old))
        new.replace(database)
    except OSError:
        for kept, old in moved:
            kept.rename(old)
        raise
