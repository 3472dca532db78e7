"""A child process for work whose input is not trusted: a Python module, started and supervised.

Parent and child share a socket pair (MessageSocket). The child ends when its parent has ended,
however that happened; when the child ends, the parent goes on and starts another one.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from controller.process.background_thread import BackgroundThread
from controller.process.logs import child_log_variables, configure_child_logs
from controller.process.messages import Message, MessageSocket, PeerGone

RESTART_MIN_S, RESTART_MAX_S = 0.1, 10.0
"""Pause before a child is started again, in seconds: doubled each time that it ends early."""
STABLE_S = 60.0
"""A child that runs for so long is well: its next end is a new event."""
STOP_S = 2.0
"""How long a child may take to end by itself, in seconds; then it is killed."""

STDERR = 2
"""File descriptor of the log; what a child prints goes there as well."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChildProgram:
    """What a child runs: ``python -m module``, and what it inherits."""

    name: str
    """In the operator's words, like "HTTP front"."""
    module: str
    max_message: int
    """Longest head and longest body of a message, in bytes."""
    files: tuple[int, ...] = ()
    """File descriptors that the child inherits, under the same numbers."""


class ChildProcess:
    """One child, from ``start`` to ``stop``; started again with a growing pause when it ends.

    ``talk`` is called with the connection to each child that is started, in a thread of this
    object. It returns, or raises PeerGone, when the child is of no use any more; then the child
    is ended, and another one is started.
    """

    def __init__(self, program: ChildProgram, talk: Callable[[MessageSocket], None]) -> None:
        self._program, self._talk = program, talk
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: MessageSocket | None = None
        self._ended: str | None = None
        """Why the last child has ended; None once its successor is well."""
        self._started_at = 0.0
        self._thread = BackgroundThread(self._run, name=program.name)

    def start(self) -> None:
        """Start the child and go on at once."""
        self._thread.start()

    def stop(self, farewell: Message | None = None) -> None:
        """Let the child end, and start no other; any number of times.

        A child that understands ``farewell`` finishes its work and leaves, in STOP_S at most.
        """
        self._stopping.set()
        connection = self._connection
        if connection is not None and farewell is not None and self._thread.is_alive():
            with contextlib.suppress(PeerGone):
                connection.send(farewell)
                self._thread.wait(STOP_S)
        if connection is not None:
            connection.end()
        self._thread.wait(2 * STOP_S)

    @property
    def pid(self) -> int | None:
        """The process id of the running child."""
        return None if self._process is None else self._process.pid

    @property
    def problem(self) -> str | None:
        """A sentence while the child is away, and for STABLE_S after it was started again."""
        if self._ended is None:
            return None
        name = self._program.name
        if self._process is None:
            return f"the {name} {self._ended}, and is being started again"
        if time.monotonic() - self._started_at > STABLE_S:
            return None
        return f"the {name} {self._ended}, and has been started again: see the log"

    def _run(self) -> None:
        pause_s = RESTART_MIN_S
        while not self._stopping.is_set():
            self._started_at = time.monotonic()
            ended = self._run_once()
            if self._stopping.is_set():
                return
            is_early = time.monotonic() - self._started_at < STABLE_S
            pause_s = min(2 * pause_s, RESTART_MAX_S) if is_early else RESTART_MIN_S
            if not is_early or ended != self._ended:  # said once, not at each attempt
                log.error("child process ended", child=self._program.name, reason=ended)
            self._ended = ended
            self._stopping.wait(pause_s)

    def _run_once(self) -> str:
        """Start a child and talk to it until it has ended; returns why, as a clause."""
        here, there = socket.socketpair()
        try:
            self._process = _spawn(self._program, there)
        except OSError as error:
            here.close()
            return f"cannot be started ({error})"
        finally:
            there.close()
        self._connection = MessageSocket(here, self._program.max_message)
        if self._stopping.is_set():  # stop() may have come before there was a connection
            self._connection.end()
        why = ""
        try:
            self._talk(self._connection)
        except PeerGone as gone:
            why = str(gone)
        except Exception as bug:  # the edge of the thread: the child must be ended
            log.error("talk to child process failed", child=self._program.name, exc_info=bug)
            why = f"was not understood ({type(bug).__name__})"
        self._connection.close()
        status = _end(self._process)
        self._process = None
        return _clause(status, why)


def connect_to_parent() -> socket.socket:
    """In the child: its end of the socket pair. To be called first.

    From now on the process ends by itself when the parent closes the connection or ends. Signals
    of a terminal and of a service manager are ignored: it is the parent that ends the child. Once
    the parent has gone, nothing is printed: errors that come of that tell nobody anything. Until
    then, what is logged has the level, form and limits of the log of the parent.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    watched = os.dup(connection.fileno())  # open until the end: a closed one would look like an end
    watch = threading.Thread(target=_exit_with_parent, args=(watched,), name="parent", daemon=True)
    watch.start()
    sys.stderr = cast(TextIO, _Stderr(sys.stderr, watched))
    configure_child_logs()
    return connection


class _Stderr:
    """Standard error of a child: who writes when the parent has gone ends the process at once.

    The thread that waits for the end of the parent may come later than an error in another one.
    """

    def __init__(self, stream: TextIO, descriptor: int) -> None:
        self._stream, self._descriptor = stream, descriptor

    def write(self, text: str) -> int:
        """Write, unless the parent has gone."""
        if _parent_gone(self._descriptor, 0):
            os._exit(0)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _exit_with_parent(descriptor: int) -> None:
    """Wait for the end of the parent, also while other threads compute; then exit at once."""
    _parent_gone(descriptor, None)
    os._exit(0)


def _parent_gone(descriptor: int, timeout_ms: int | None) -> bool:
    """Whether the connection to the parent ends within this time."""
    poll = select.poll()
    poll.register(descriptor, 0)  # POLLHUP and POLLERR are always reported
    return bool(poll.poll(timeout_ms))


def _spawn(program: ChildProgram, connection: socket.socket) -> subprocess.Popen[bytes]:
    number = connection.fileno()
    return subprocess.Popen(
        [sys.executable, "-P", "-m", program.module, str(number), *map(str, program.files)],
        stdin=subprocess.DEVNULL,
        stdout=STDERR,
        env=_environment(),
        pass_fds=(number, *program.files),
        process_group=0,  # Ctrl-C on a terminal goes to the parent only
    )


def _environment() -> dict[str, str]:
    """That of this process, and its log; a checkout that is not installed is importable, too."""
    variables = {**os.environ, **child_log_variables()}
    root = str(Path(__file__).resolve().parents[2])
    if root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return variables
    path = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**variables, "PYTHONPATH": os.pathsep.join(path)}


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait until the child has ended, and kill it if it does not; its exit status."""
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _clause(status: int, why: str) -> str:
    if status < 0:
        ended = f"was killed by {signal.Signals(-status).name}"
    else:
        ended = f"ended with status {status}"
    return f"{ended} ({why})" if why else ended
