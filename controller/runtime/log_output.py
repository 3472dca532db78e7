"""Standard error while the controller runs: whoever logs never waits, and gets no error.

File descriptor 2 becomes a pipe. One thread reads it at all times; another one writes the lines to
where standard error went before, and may wait there as long as it takes. So a terminal that is
stopped, a pipe that nobody reads and a full disk cost lines, and nothing else. It covers all that
writes to standard error: our log, that of libraries, tracebacks, and child processes.

Both threads are native on every runtime. This module keeps the functions of the system as they are
before eventlet replaces them, so it must be loaded and started first; it takes no lock that green
threads take.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import faulthandler
import fcntl
import io
import os
import signal
import sys
from _queue import SimpleQueue
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from os import read, write
from select import POLLIN, POLLOUT, poll
from time import monotonic, sleep

ERROR_STREAM = 2
LINES_BYTES_MAX = 1 << 20
"""Bytes of lines that wait to be written; lines that come then are dropped, and counted."""
PIPE_BYTES = 1 << 20
"""Size of the pipe, where the system allows it: a long line of one process stays in one piece."""
WRITE_TOGETHER = 4096
"""Bytes of several lines in one write: no pipe mixes them with those of others (PIPE_BUF)."""
READ_AT_ONCE = 65536
WRITE_AGAIN_S = 1.0
"""Pause after an error, in seconds; then the same lines are tried again."""
UNREAD_S = 3.0
"""A write that takes longer is a problem of the status, in seconds."""
PART_MS = 200
"""A line without an end is written after so many milliseconds."""
FLUSHED_S, FINISH_LOOK_S = 1.0, 0.002
"""How long an exit waits for lines to be written, and how often it looks, in seconds."""

WHY_NOT_WRITTEN = {
    errno.EBADF: "it is closed",
    errno.EPIPE: "nobody reads it any more",
    errno.ENOSPC: "the disk is full",
}


class LogOutput:
    """Lines from one file descriptor to another; ``lost`` counts those that were dropped."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._lock = allocate_lock()
        self._part = b""
        self._bytes = 0
        """Of lines that are not written yet."""
        self._waiting = self._lost_now = 0
        """Lines that are not written yet, and that were dropped since all was written."""
        self._error: OSError | None = None
        """Why the last write has failed; None once one succeeds."""
        self._last_progress: float | None = None
        """When the lines that are being written were begun, or a part of them was written."""
        self.lost = 0
        self.last_reason = ""

    def start(self) -> None:
        """Start both threads."""
        start_new_thread(_without_signals, (self._read_all,))
        start_new_thread(_without_signals, (self._write_all,))

    @property
    def problem(self) -> str:
        """A sentence while lines are not written; else empty."""
        reason = self._reason()
        if reason is None:
            return ""
        self.last_reason = reason
        return (
            f"log lines do not reach standard error ({reason}): "
            f"{self._waiting} wait, {self._lost_now} are lost"
        )

    @property
    def is_taken(self) -> bool:
        """Whether the target takes what is written, as far as is known."""
        return self._error is None and self._last_progress is None

    def finish(self) -> bool:
        """Wait until everything is written, for FLUSHED_S at most; whether it is."""
        until = monotonic() + FLUSHED_S
        while not (is_written := self._is_written()) and monotonic() < until:
            if self._error is not None:
                break
            sleep(FINISH_LOOK_S)
        return is_written

    def _reason(self) -> str | None:
        error, since = self._error, self._last_progress
        if error is not None:
            return WHY_NOT_WRITTEN.get(error.errno or 0, error.strerror or str(error))
        if since is not None and monotonic() - since > UNREAD_S:
            return f"nobody has read it for {monotonic() - since:.0f} s"
        return "it is read too slowly" if self._lost_now else None

    def _is_written(self) -> bool:
        with self._lock:
            if _is_readable(self._source):
                return False
            self._pass_part()
            return not self._bytes

    # --- the thread that reads ----------------------------------------------------------------

    def _read_all(self) -> None:
        incoming = poll()
        incoming.register(self._source, POLLIN)
        is_open = True
        while is_open:
            is_there = bool(incoming.poll(PART_MS if self._part else None))
            with self._lock:  # who has it sees each line in the pipe, or as one that waits
                if is_there:
                    data = read(self._source, READ_AT_ONCE)
                    is_open = bool(data)
                    self._take(data)
                else:
                    self._pass_part()

    def _take(self, data: bytes) -> None:
        whole, end, self._part = (self._part + data).rpartition(b"\n")
        for lines in in_writes(whole + end):
            self._pass(lines)
        if len(self._part) > READ_AT_ONCE:
            self._pass_part()

    def _pass_part(self) -> None:
        if self._part:
            self._pass(self._part)
            self._part = b""

    def _pass(self, lines: bytes) -> None:
        count = _count(lines)
        if self._bytes + len(lines) > LINES_BYTES_MAX:
            self.lost += count
            self._lost_now += count
            return
        self._bytes += len(lines)
        self._waiting += count
        self._lines.put(lines)

    # --- the thread that writes ---------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            lines = self._lines.get()
            self._write(lines)
            with self._lock:
                self._bytes -= len(lines)
                self._waiting -= _count(lines)
                if not self._bytes:
                    self._lost_now = 0

    def _write(self, lines: bytes) -> None:
        """Write lines, however long that takes."""
        self._last_progress = monotonic()
        while lines:
            try:
                lines = lines[write(self._target, lines) :]
                self._error, self._last_progress = None, monotonic()
            except BlockingIOError:  # who has opened it wants it not to block
                outgoing = poll()
                outgoing.register(self._target, POLLOUT)
                outgoing.poll()
            except OSError as error:
                self._error = error
                sleep(WRITE_AGAIN_S)
        self._last_progress = None


def in_writes(lines: bytes) -> Iterator[bytes]:
    """Whole lines, as many as WRITE_TOGETHER allows, or one; what has no line end at the end."""
    start = 0
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + WRITE_TOGETHER) + 1
        end = end or lines.find(b"\n", start) + 1 or len(lines)
        yield lines[start:end]
        start = end


def _count(lines: bytes) -> int:
    return lines.count(b"\n") or 1


def _is_readable(descriptor: int) -> bool:
    incoming = poll()
    incoming.register(descriptor, POLLIN)
    return any(event & POLLIN for _, event in incoming.poll(0))


def _without_signals(run: Callable[[], None]) -> None:
    """Run a thread that gets no signal: they are for the main thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    run()


# --- of this process --------------------------------------------------------------------------

_current: LogOutput | None = None
_target = -1
"""Where standard error went before ``start``; -1 if it was closed."""


class _ErrorText(io.TextIOWrapper):
    """Standard error as a text stream: a terminal if its lines end there."""

    def isatty(self) -> bool:
        """Whether people read it."""
        return _target >= 0 and os.isatty(_target)


def start() -> None:
    """Put the pipe in the place of standard error; any number of times, first of all."""
    global _current, _target
    if _current is not None:
        return
    _open_standard_files()
    source, pipe = os.pipe()
    with contextlib.suppress(OSError):  # the user has used up what he may have of pipes
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.dup2(pipe, ERROR_STREAM)
    os.close(pipe)
    encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
    sys.stderr = _ErrorText(
        io.BufferedWriter(io.FileIO(ERROR_STREAM, "w", closefd=False)),
        encoding, errors="backslashreplace", line_buffering=True,
    )  # fmt: skip
    if _target >= 0:  # of a crash, which no thread survives
        faulthandler.enable(_target)
    _current = LogOutput(source, _target)
    _current.start()
    atexit.register(finish)


def _open_standard_files() -> None:
    """Remember where standard error goes, and let no other file get the number 0, 1 or 2."""
    global _target
    for descriptor in range(ERROR_STREAM + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        else:
            if descriptor == ERROR_STREAM:
                _target = fcntl.fcntl(ERROR_STREAM, fcntl.F_DUPFD_CLOEXEC, ERROR_STREAM + 1)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115


def finish() -> None:
    """Write what was logged, as far as its reader takes it, and put standard error back."""
    global _current
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    output, _current = _current, None
    if output is None:
        return
    if output.finish() and _target >= 0:
        os.dup2(_target, ERROR_STREAM)
    else:  # what is written now must not wait
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, ERROR_STREAM)
        os.close(nowhere)


def last_words() -> int:
    """The file descriptor for what is written just before the process ends by force."""
    if _current is None:
        return ERROR_STREAM
    if _target >= 0 and _current.is_taken:
        return _target
    return os.open(os.devnull, os.O_WRONLY)


def log_problem() -> str:
    """A sentence while lines of the log are not written; else empty."""
    return "" if _current is None else _current.problem


def lost_log_lines() -> tuple[int, str]:
    """How many lines of the log were dropped since the start, and why the last ones."""
    return (0, "") if _current is None else (_current.lost, _current.last_reason)
