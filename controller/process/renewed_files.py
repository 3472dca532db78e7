"""What is read from files that may be replaced at any time: certificates, keys, tokens.

New content is used once it is whole and valid. Until then what was read last stays in use, and a
sentence says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from flows.errors import CloudtapError

LOOK_AT_FILES_S = 1.0
"""Files are looked at so often at most, in seconds."""

T = TypeVar("T")
Stamp = tuple[tuple[int, ...], ...]

log = structlog.get_logger(__name__)


class RenewedFiles(Generic[T]):
    """What ``read`` makes of some files together, as of the last time they were valid.

    ``read`` raises OSError, ValueError or CloudtapError if they cannot be used. ``kept`` is the
    clause that says what is used instead (empty: somebody else says so), and ``lost`` what happens
    while there never were valid files; without it nothing is said then. One thread looks; others
    may take ``value``.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        read: Callable[[], T],
        kept: str,
        lost: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths, self._read, self._clock = tuple(paths), read, clock
        self._kept, self._lost = kept, lost
        self._value: tuple[T] | None = None
        self._error: Exception | None = None
        self._stamp: Stamp | None = None
        self._looked_at: float | None = None
        self.problem: str | None = None
        """Why the files as they are now are not used."""

    @property
    def value(self) -> T:
        """What was read last from valid files.

        Raises:
            OSError, ValueError, CloudtapError: there never were any; that of ``read``.
        """
        if self._value is None:
            self.look_again()
        if self._value is None:
            assert self._error is not None
            raise self._error.with_traceback(None)
        return self._value[0]

    def look_again(self) -> bool:
        """Read the files if they have changed; returns whether what they hold is used from now on.

        Nothing is looked at if the last time is less than LOOK_AT_FILES_S ago.
        """
        now = self._clock()
        if self._looked_at is not None and now - self._looked_at < LOOK_AT_FILES_S:
            return False
        self._looked_at = now
        # taken before they are read: what changes meanwhile is read the next time
        stamp = tuple(map(_stamp, self._paths))
        if stamp == self._stamp:
            return False
        is_renewed = self._value is not None
        try:
            value = self._read()
        except (OSError, ValueError, CloudtapError) as error:
            self._note(error, self._kept if is_renewed else self._lost)
            return False
        self._value, self._error, self._stamp, self.problem = (value,), None, stamp, None
        if is_renewed and self._kept:
            log.info("changed files used", files=list(map(str, self._paths)))
        return True

    def _note(self, error: Exception, consequence: str) -> None:
        self._stamp = None  # the same files are used when they are back
        self._error, reason = error, _reason(error)
        problem = f"{consequence}: {reason}" if consequence else None
        if problem != self.problem:
            log.error("changed files not used", reason=reason)
        self.problem = problem


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _stamp(path: str | Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    # the time of change, too: a file that another one is moved over may have the same content
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
