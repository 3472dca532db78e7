"""Sessions that were switched off while the database could not be written: a small journal.

A tap must end at once when its owner says so, also when the disk is full. The journal is a file
whose blocks are allocated beforehand: to overwrite them needs no space on the disk. What it holds
is written to the database as soon as that is possible, and survives a restart until then.

A journal that is damaged may have held any session that cannot be told from it. Those make no
copies until somebody enables them: rather a tap too few than one that its owner has ended.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import zlib
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path

import structlog

from controller.process import write_file
from controller.store.directory import JOURNAL
from controller.store.errors import StoreError
from controller.store.values import SessionRecord
from flows.errors import InvalidValue
from flows.model import SessionId, check_name

DAMAGED = f"{JOURNAL}.damaged"
"""Where a damaged journal is kept for the operator, in the state directory."""
RECORD_BYTES = 256
RECORDS = 256
"""So many sessions fit; more are remembered in memory only, and that is said."""
JOURNAL_BYTES = RECORDS * RECORD_BYTES
WHO_MAX, WHY_MAX = 40, 70
"""So much of who switched a session off, and of why, is kept, in characters."""

MAY_BE_OFF = (
    "it may have been switched off or deleted before the restart: the journal of that is damaged. "
    "Enable it if it is still wanted, or delete it"
)
"""Why a session is stopped that a damaged journal may have held."""

log = structlog.get_logger(__name__)


class How(Enum):
    """How a session was switched off; a later member includes the earlier ones."""

    STOPPED = "stopped"
    DISABLED = "disabled"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class SwitchOff:
    """One session that was switched off: how, when (UTC), by whom, and for a limit why."""

    session: SessionId
    how: How
    at: datetime
    who: str
    reason: str = ""

    def apply(self, record: SessionRecord) -> SessionRecord:
        """The record of the session as it is from now on."""
        match self.how:
            case How.DELETED:
                return replace(record, is_deleting=True)
            case How.DISABLED:
                return replace(record, session=replace(record.session, enabled=False))
            case How.STOPPED:
                return replace(record, stopped=record.stopped or self.reason)


class SwitchedOff:
    """What was switched off and is not in the database yet. Any number of threads may call it.

    ``is_present`` says whether the state directory is still there.

    Raises:
        StoreError: there is a journal that cannot be opened.
    """

    def __init__(self, directory: Path, is_present: Callable[[], bool]) -> None:
        self._path, self._is_present = directory / JOURNAL, is_present
        self._kept = directory / DAMAGED
        self._lock = threading.Lock()
        self._waiting: dict[SessionId, SwitchOff] = {}
        self._slots: dict[SessionId, int] = {}
        self._remains: dict[int, bytes] = {}
        self._doubted: set[SessionId] = set()
        self._is_resized = False
        self._file = self._open()
        if self._file is not None:
            self._read(self._file)
        elif os.path.lexists(self._path):
            raise StoreError(f"{self._path} cannot be opened: it says which sessions are off")
        if self.is_damaged:
            log.error("journal of sessions that were switched off is damaged", file=str(self._path))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    @property
    def waiting(self) -> tuple[SwitchOff, ...]:
        """What the database does not have yet."""
        with self._lock:
            return tuple(self._waiting.values())

    @property
    def problem(self) -> str:
        """A sentence while something waits, else empty."""
        with self._lock:
            kept = self._slots.keys() | self._doubted
            count, unkept = len(self._waiting), len(self._waiting.keys() - kept)
        if not count:
            return ""
        said = (
            f"{count} sessions were switched off, deleted or stopped, and the state database "
            "cannot record it yet: their copies have ended"
        )
        if unkept:
            return f"{said}; {unkept} of them would begin again if the controller restarted now"
        return f"{said}, and a restart does not begin them again"

    @property
    def is_damaged(self) -> bool:
        """Whether the journal has a part that cannot be read, and is still in use."""
        return self._is_resized or bool(self._remains)

    @property
    def damage(self) -> str:
        """A sentence while the journal is damaged, or one that was is still kept; else empty."""
        if self.is_damaged:
            return (
                f"{self._path} is damaged: it held which sessions were switched off or deleted "
                "while the database could not be written. Those that it may have held make no "
                "copies now; this is recorded as soon as the database can be written"
            )
        if os.path.lexists(self._kept):
            return (
                f"{self._kept} was damaged: it held which sessions were switched off or deleted "
                "while the database could not be written. Those that it may have held are stopped, "
                "and say so: type `cloudtap session enable NAME` for each that is still wanted, "
                "delete the others, then remove this file"
            )
        return ""

    def doubtful(self, sessions: Collection[SessionId]) -> set[SessionId]:
        """Those of all sessions that the damaged part of the journal may have held.

        A damaged record in which the id of a session is still readable was of that one; any other
        may have been of any session.
        """
        found: set[SessionId] = set(sessions) if self._is_resized else set()
        for remains in self._remains.values():
            named = {session for session in sessions if json.dumps(session).encode() in remains}
            found |= named if len(named) == 1 else set(sessions)
        return found

    def doubt(self, session: SessionId, at: datetime, who: str) -> None:
        """Have a session off that the damaged part may have held, until somebody enables it."""
        with self._lock:
            self._doubted.add(session)
            self._waiting[session] = SwitchOff(session, How.STOPPED, at, who, MAY_BE_OFF)

    def find(self, session: SessionId) -> SwitchOff | None:
        """How a session was switched off, if the database does not have it yet."""
        with self._lock:
            return self._waiting.get(session)

    def note(self, entry: SwitchOff) -> None:
        """Remember that a session was switched off, in the journal too if that is possible."""
        with self._lock:
            before = self._waiting.get(entry.session)
            order = list(How)
            if before is not None and order.index(before.how) >= order.index(entry.how):
                return
            self._waiting[entry.session] = entry
            self._write(entry)

    def forget(self, entries: Iterable[SwitchOff]) -> None:
        """The database has recorded these; what was noted of their sessions since then waits."""
        with self._lock:
            blank: list[int] = []
            for entry in entries:
                if self._waiting.get(entry.session) is not entry:
                    continue
                del self._waiting[entry.session]
                slot = self._slots.pop(entry.session, None)
                if slot is not None:
                    blank.append(slot)
            if self.is_damaged and self._is_present():
                with suppress(OSError):  # else it is tried again at the next change
                    self._set_aside()
                    return
            if self._file is not None:
                with suppress(OSError):
                    for slot in blank:
                        os.pwrite(self._file, bytes(RECORD_BYTES), slot * RECORD_BYTES)
                    os.fdatasync(self._file)

    def _open(self) -> int | None:
        """The journal with all its blocks allocated; None while that is not possible."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            if not os.path.lexists(self._path):  # written, not only reserved, and never seen short
                write_file(self._path, bytes(JOURNAL_BYTES))
            file = os.open(self._path, flags)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return None
        return file

    def _read(self, file: int) -> None:
        self._is_resized = os.fstat(file).st_size != JOURNAL_BYTES
        for slot in range(RECORDS):
            try:
                record = os.pread(file, RECORD_BYTES, slot * RECORD_BYTES)
            except OSError:  # the disk cannot read it
                self._remains[slot] = b""
                continue
            if not record.strip(b"\0"):
                continue
            entry = _decode(record)
            if entry is None:
                self._remains[slot] = record
            else:
                self._waiting[entry.session] = entry
                self._slots[entry.session] = slot

    def _set_aside(self) -> None:
        """Keep the damaged journal as DAMAGED, and begin another one with what still waits.

        At every moment one of the two is in its place.

        Raises:
            OSError: the new one cannot be written.
        """
        self._kept.unlink(missing_ok=True)
        try:
            os.link(self._path, self._kept)
        except OSError:  # a file system without hard links
            self._path.rename(self._kept)
        waiting = list(self._waiting.values())[:RECORDS]
        content = b"".join(_encode(entry) for entry in waiting)
        write_file(self._path, content.ljust(JOURNAL_BYTES, b"\0"))
        if self._file is not None:
            os.close(self._file)
        self._file = self._open()
        self._slots = {entry.session: slot for slot, entry in enumerate(waiting)}
        self._remains, self._is_resized = {}, False
        self._doubted.clear()
        log.warning("damaged journal set aside", file=str(self._kept))

    def _write(self, entry: SwitchOff) -> None:
        if not self._is_present():
            return
        if self._file is None:
            self._file = self._open()
        if self._file is None or self._is_resized:
            return
        slot = self._slots.get(entry.session)
        if slot is None:
            taken = self._remains.keys() | self._slots.values()
            slot = next((n for n in range(RECORDS) if n not in taken), None)
        if slot is None:
            return
        try:
            os.pwrite(self._file, _encode(entry), slot * RECORD_BYTES)
            os.fdatasync(self._file)
        except OSError:
            self._slots.pop(entry.session, None)
            return
        self._slots[entry.session] = slot


def _encode(entry: SwitchOff) -> bytes:
    """One record: a checksum, and the entry as JSON, with as much of its texts as fits."""
    text = b""
    for shown in range(WHY_MAX, -1, -1):
        values = [entry.session, entry.how.value, entry.at.isoformat()]
        values += [entry.who[: min(shown, WHO_MAX)], entry.reason[:shown]]
        text = json.dumps(values, separators=(",", ":")).encode()
        if len(text) <= RECORD_BYTES - 10:
            break
    return f"{zlib.crc32(text):08x} ".encode() + text.ljust(RECORD_BYTES - 9, b"\n")


def _decode(record: bytes) -> SwitchOff | None:
    """The entry of a record; None if it is not whole."""
    checksum, text = record[:8], record[9:].rstrip(b"\n\0")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        session, how, at, who, reason = json.loads(text)
        check_name("session", session)
        when = datetime.fromisoformat(at)
        return SwitchOff(SessionId(session), How(how), when, str(who), str(reason))
    except (ValueError, TypeError, InvalidValue):
        return None
