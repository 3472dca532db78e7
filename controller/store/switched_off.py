"""Sessions that were switched off while the database could not be written: a small journal.

A tap must end at once when its owner says so, also when the disk is full. The journal is a file
whose blocks are allocated beforehand: to overwrite them needs no space on the disk. What it holds
is written to the database as soon as that is possible, and survives a restart until then.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path

from controller.store.values import SessionRecord
from flows.errors import InvalidValue
from flows.model import SessionId, check_name

JOURNAL = "switched-off"
RECORD_BYTES = 256
RECORDS = 256
"""So many sessions fit; more are remembered in memory only, and that is said."""
WHO_MAX, WHY_MAX = 40, 70
"""So much of who switched a session off, and of why, is kept, in characters."""


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
    """

    def __init__(self, directory: Path, is_present: Callable[[], bool]) -> None:
        self._path, self._is_present = directory / JOURNAL, is_present
        self._lock = threading.Lock()
        self._waiting: dict[SessionId, SwitchOff] = {}
        self._slots: dict[SessionId, int] = {}
        self._file = self._open()
        if self._file is not None:
            self._read(self._file)

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
            count, unkept = len(self._waiting), len(self._waiting.keys() - self._slots.keys())
        if not count:
            return ""
        said = (
            f"{count} sessions were switched off, deleted or stopped, and the state database "
            "cannot record it yet: their copies have ended"
        )
        if unkept:
            return f"{said}; {unkept} of them would begin again if the controller restarted now"
        return f"{said}, and a restart does not begin them again"

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
            for entry in entries:
                if self._waiting.get(entry.session) is not entry:
                    continue
                del self._waiting[entry.session]
                slot = self._slots.pop(entry.session, None)
                if slot is not None and self._file is not None:
                    with suppress(OSError):
                        os.pwrite(self._file, bytes(RECORD_BYTES), slot * RECORD_BYTES)
            if self._file is not None:
                with suppress(OSError):
                    os.fdatasync(self._file)

    def _open(self) -> int | None:
        """The journal with all its blocks allocated; None while that is not possible."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(self._path, flags, 0o600)
        except OSError:
            return None
        size = os.fstat(file).st_size
        try:
            if size < RECORDS * RECORD_BYTES:  # written, not only reserved: also where that differs
                os.pwrite(file, bytes(RECORDS * RECORD_BYTES - size), size)
                os.fsync(file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, size)
            if not size:
                os.close(file)
                return None
        return file

    def _read(self, file: int) -> None:
        for slot in range(os.fstat(file).st_size // RECORD_BYTES):
            entry = _decode(os.pread(file, RECORD_BYTES, slot * RECORD_BYTES))
            if entry is not None:
                self._waiting[entry.session] = entry
                self._slots[entry.session] = slot

    def _write(self, entry: SwitchOff) -> None:
        if not self._is_present():
            return
        if self._file is None:
            self._file = self._open()
        if self._file is None:
            return
        slot = self._slots.get(entry.session)
        if slot is None:
            taken = set(self._slots.values())
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
    """The entry of a record; None if it is empty, or was not written whole."""
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
