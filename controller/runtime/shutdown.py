"""Shutdown of the process by SIGINT, SIGTERM or a fatal error, the same on every runtime.

A signal never interrupts running code: an exception that a signal handler raises is lost in
whatever thread happens to run. The signal is written to a socket pair instead
(signal.set_wakeup_fd), and one waiter reads it.
"""

import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import structlog

from controller.runtime import log_output

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TIMEOUT_SECONDS = 10
"""A shutdown that takes longer dumps the traceback of every thread and exits with status 1."""
KILLED_SECONDS = 15
"""If even that is held up, the kernel ends the process."""

RELOADED = "inventory, certificates and tokens are read again; the configuration only at a start"

HangupCallback = Callable[[], None]

_WAKE = b"\0"
_hangup_callbacks: list[HangupCallback] = []

log = structlog.get_logger()


class Shutdown:
    """The shutdown of this process: requested by signals or by ``fail``, awaited by one waiter."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._is_requested = False
        self.failure: Exception | None = None
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, _ignore)  # SIG_IGN would not wake the waiter
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def fail(self, error: Exception) -> None:
        """Request a shutdown with status 1 because of ``error``; the first error counts."""
        self.failure = self.failure or error
        self._writer.send(_WAKE)

    def wait(self) -> Exception | None:
        """Wait until a shutdown is requested; the error that requested it, or None for a signal."""
        wanted = {0, *SIGNALS}
        while wanted.isdisjoint(received := self._reader.recv(64)):
            if signal.SIGHUP in received:
                log.info("SIGHUP received", consequence=RELOADED)
                for callback in _hangup_callbacks:
                    callback()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(KILLED_SECONDS)
        faulthandler.dump_traceback_later(TIMEOUT_SECONDS, file=log_output.last_words(), exit=True)
        return self.failure

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_requested:  # the second signal: exit at once
            os._exit(128 + number)
        self._is_requested = True


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


_current: Shutdown | None = None


def begin() -> Shutdown:
    """Let signals and fail() request the shutdown; in the main thread, any number of times."""
    global _current
    if _current is None:
        _current = Shutdown()
    return _current


def listen_hangup(callback: HangupCallback) -> None:
    """Call callback() for each SIGHUP, in the thread that waits for the shutdown.

    It only wakes others: it neither blocks nor raises.
    """
    _hangup_callbacks.append(callback)


def is_failing() -> bool:
    """Whether an error has requested the shutdown."""
    return _current is not None and _current.failure is not None


def fail(error: Exception) -> None:
    """Request the shutdown of this process because of ``error``; raise it before ``begin``."""
    if _current is None:
        raise error
    _current.fail(error)


def report(error: Exception) -> None:
    """Print on standard error, in one sentence, why the controller cannot run."""
    # this module is loaded before eventlet has replaced locks, and those of controller.process
    # must be its own: green threads that wait for a native lock stop the whole process
    from controller.process import visible_lines

    print(f"cloudtap: {visible_lines(str(error))}", file=sys.stderr, flush=True)


def exit_now(status: int) -> NoReturn:
    """Exit without waiting for threads; what was logged is written first, if that does not hang."""
    logging.shutdown()
    log_output.finish()
    os._exit(status)
