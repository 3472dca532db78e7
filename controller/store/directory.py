"""The state directory: open to its owner alone, locked for one controller, and still there."""

from __future__ import annotations

import fcntl
import os
import pwd
import shlex
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from controller.process import PID_BYTES_MAX, Access, UnusableFile, check_access
from controller.store.errors import AlreadyRunning, StoreError

STATE_DB = "state.db"
COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite may put beside a database, by the end of the name."""

BEFORE = f"{STATE_DB}.before-restore"
"""What a restore has replaced; that of a later one has a number behind it, such as ``-2``."""
JOURNAL = "switched-off"
"""The file that holds what was switched off and is not in the database yet."""
INVENTORY_KEPT, NEUTRON_KEPT = "inventory-in-force.yaml", "neutron-in-force.json"
"""Copy of the inventory in force: what a start compares the file with."""

LOCK = "lock"
"""The file that holds the process id of the controller, and is locked like the directory itself."""

_Identity = tuple[int, int]

log = structlog.get_logger(__name__)


class StateDirectory:
    """A directory that this process has locked; the kernel releases the lock when it ends.

    The directory itself is locked: nobody gets the lock by removing a file in it. The lock of the
    file keeps out versions that know only this one, and file systems that lock no directories.

    Raises:
        AlreadyRunning: another controller has locked it.
        StoreError: it cannot be used, or other users of the machine have access to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / STATE_DB
        self._checking = threading.Lock()
        self._directory_lock: int | None
        self._lock: int | None
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owner(path, path.stat(), "a directory", stat.S_ISDIR)
            self._directory_lock, self._lock = _lock(path)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise StoreError(
                f"state directory {str(path)!r} cannot be used: {error.strerror}{where}; "
                f"{_way_out(error)}name another one in [state] directory"
            ) from error
        try:
            for file in (*self.files(), path / JOURNAL, path / INVENTORY_KEPT, path / NEUTRON_KEPT):
                if os.path.lexists(file):
                    _close_to_others(file)
        except OSError as error:
            self.unlock()
            raise StoreError(
                f"state directory {str(path)!r} cannot be used: {error.strerror}: {error.filename}"
            ) from error
        except StoreError:
            self.unlock()
            raise

    def files(self) -> list[Path]:
        """The database and its companions, those that exist."""
        names = (STATE_DB, *(f"{STATE_DB}{end}" for end in COMPANIONS))
        return [self.path / name for name in names if os.path.lexists(self.path / name)]

    def check_lock(self) -> None:
        """Make the lock file again if it was removed or replaced.

        Raises:
            AlreadyRunning: another process has locked the new one.
            StoreError: it cannot be made.
        """
        file = self.path / LOCK
        with self._checking:
            if self._lock is None:
                raise StoreError(f"state directory {str(self.path)!r} is not locked any more")
            held = os.fstat(self._lock)
            if _identity(file) == (held.st_dev, held.st_ino):
                return
            try:
                lock = _lock_file(self.path)
            except OSError as error:
                raise StoreError(
                    f"lock file {file} was removed while the controller runs, and cannot be made "
                    f"again: {error.strerror} (nothing was changed)"
                ) from error
            os.close(self._lock)
            self._lock = lock
        log.warning("lock file made again", file=str(file), reason="it was removed or replaced")

    def unlock(self) -> None:
        """Let another process use the directory."""
        with self._checking:
            for lock in (self._lock, self._directory_lock):
                if lock is not None:
                    os.close(lock)
            self._lock = self._directory_lock = None


def kept_files(directory: Path) -> list[Path]:
    """What restores have replaced in a directory, the oldest first."""
    return [file for _, file in sorted(_kept_numbers(directory).items())]


def next_kept(directory: Path) -> Path:
    """Where what is replaced next is kept: a name that nothing has, not even a part of one."""
    number = max(_kept_numbers(directory), default=0) + 1
    while True:
        file = directory / (BEFORE if number == 1 else f"{BEFORE}-{number}")
        if not any(os.path.lexists(f"{file}{end}") for end in ("", *COMPANIONS)):
            return file
        number += 1


def _kept_numbers(directory: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    with suppress(OSError):
        for file in directory.iterdir():
            number = file.name.removeprefix(f"{BEFORE}-")
            if file.name == BEFORE:
                found[1] = file
            elif file.name != number and number.isdecimal() and number.isascii():
                found[int(number)] = file
    return found


@contextmanager
def locked(path: Path) -> Iterator[StateDirectory]:
    """A state directory that is locked inside the block."""
    directory = StateDirectory(path)
    try:
        yield directory
    finally:
        directory.unlock()


class Presence:
    """Whether a database is still the file that was opened, at its path.

    SQLite goes on with files that were removed: what it writes to them is lost.
    """

    def __init__(self, database: Path) -> None:
        self._database, self._log = database, Path(f"{database}-wal")
        self._seen = _identity(database), _identity(self._log)

    def is_kept(self) -> bool:
        """Whether database and write-ahead log are where they were."""
        database, log = self._seen
        if log is None:  # it is made by the first write
            self._seen = database, _identity(self._log)
            return database is not None and _identity(self._database) == database
        return (_identity(self._database), _identity(self._log)) == self._seen


def _identity(file: Path) -> _Identity | None:
    try:
        found = os.lstat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lock(directory: Path) -> tuple[int | None, int | None]:
    """Lock the directory, and a file in it; returns the descriptors that hold the locks."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system that locks only files, such as NFS
            _lock_now(opened, directory)
        return opened, _lock_file(directory)
    except BaseException:
        os.close(opened)
        raise


def _lock_now(opened: int, directory: Path) -> None:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _already_running(directory) from error


def _lock_file(directory: Path) -> int:
    file = directory / LOCK
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if file.is_symlink():
        raise StoreError(f"{file} is a symbolic link, not a file of cloudtap's: remove it")
    lock = os.open(file, flags, 0o600)
    try:
        _check_owner(file, os.fstat(lock), "a regular file", stat.S_ISREG, check_mode=False)
        os.fchmod(lock, 0o600)
        _lock_now(lock, directory)
    except BaseException:
        os.close(lock)
        raise
    os.ftruncate(lock, 0)
    with suppress(OSError):  # the disk is full: the lock holds all the same
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _already_running(directory: Path) -> AlreadyRunning:
    owner = b""
    with suppress(OSError):
        file = os.open(directory / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):  # no regular file
            owner = os.pread(file, PID_BYTES_MAX, 0).strip()
        os.close(file)
    shown = owner.decode() if owner.isdigit() else "unknown"
    return AlreadyRunning(
        f"another controller (pid {shown}) uses state directory {str(directory)!r}: "
        "stop it, or name another one in [state] directory"
    )


def _check_owner(
    path: Path,
    found: os.stat_result,
    kind: str,
    is_kind: object,
    *,
    check_mode: bool = True,
) -> None:
    if not (callable(is_kind) and is_kind(found.st_mode)):
        raise StoreError(f"{path} is not {kind}: remove it")
    if found.st_uid not in (os.geteuid(), 0):
        raise StoreError(
            f"{path} belongs to user {_user_name(found.st_uid)}: run this as that user "
            f"(`runuser -u {_user_name(found.st_uid)} -- ...`), or, if it is to be that of user "
            f"{_user_name(os.geteuid())}, type `chown {os.geteuid()} {shlex.quote(str(path))}`"
        )
    if not check_mode:
        return
    try:
        check_access(path, found, Access.SECRET)
    except UnusableFile as error:
        raise StoreError(f"state directory {error}") from error


def _way_out(error: OSError) -> str:
    if not isinstance(error, PermissionError) or not error.filename:
        return ""
    own = _user_name(os.geteuid())
    return f"type `chown {own} {shlex.quote(str(error.filename))}` as root, or "


def _user_name(number: int) -> str:
    """The name of a user, or the number of one that has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _close_to_others(file: Path) -> None:
    """Refuse what is no file of ours; take the permissions of others from an older one."""
    found = os.lstat(file)
    _check_owner(file, found, "a regular file", stat.S_ISREG, check_mode=False)
    if found.st_uid != os.geteuid() and not os.access(file, os.R_OK | os.W_OK, effective_ids=True):
        own = _user_name(os.geteuid())
        raise StoreError(
            f"{file} belongs to user {_user_name(found.st_uid)}, and user {own} may not read and "
            f"write it: type `chown {own} {shlex.quote(str(file))}` as root"
        )
    if stat.S_IMODE(found.st_mode) & Access.SECRET.value:
        with suppress(OSError):  # read-only: the directory is closed to others
            os.chmod(file, 0o600)
