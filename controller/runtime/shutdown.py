"""How the controller's process ends: SIGINT, SIGTERM and fatal errors, the same on every runtime.

A signal never interrupts running code: handlers of signals that raise lose the exception in
whatever thread happens to run. The signal is written to a socket pair instead
(signal.set_wakeup_fd), and one waiter reads it.
"""

import faulthandler
import logging
import os
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_SECONDS = 10
"""An end that takes longer shows where every thread stands and is cut off with status 1."""

_WAKE = b"\0"


class Ending:
    """The end of this process, awaited by one waiter and asked for by signals or by anybody."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._asked = False
        self.failure: Exception | None = None
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def fail(self, error: Exception) -> None:
        """Ask for an end with status 1 because of error; the first error counts."""
        self.failure = self.failure or error
        self._writer.send(_WAKE)

    def wait(self) -> Exception | None:
        """Wait until the end is asked for; the error that asked for it, or None."""
        wanted = {0, *SIGNALS}
        while wanted.isdisjoint(self._reader.recv(64)):
            pass
        faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True)
        return self.failure

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked:  # the second time: now, whatever is unfinished
            os._exit(128 + number)
        self._asked = True


_current: Ending | None = None


def begin() -> Ending:
    """Let signals and fail() end this process from now on; main thread, any number of times."""
    global _current
    if _current is None:
        _current = Ending()
    return _current


def is_failing() -> bool:
    """Whether an error has already asked for the end."""
    return _current is not None and _current.failure is not None


def fail(error: Exception) -> None:
    """Ask for the end of this process because of error; if nobody waits for that, raise it."""
    if _current is None:
        raise error
    _current.fail(error)


def report(error: Exception) -> None:
    """Say in one sentence on standard error why the controller cannot go on."""
    print(f"cloudtap: {error}", file=sys.stderr, flush=True)


def exit_now(status: int) -> NoReturn:
    """End the process without waiting for threads; what was written is flushed."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
