"""Native threads that serve many connections, without a crowd that waits for the interpreter.

A thread that waits for the interpreter asks for it again after each switch interval. When a
thousand switches connect at once, thousands of threads ask every 5 ms: that takes all processors,
no answer is read in time, and switches are cut off and come back. So the interval grows with the
number of connections, and what one thread can do takes no second one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from controller.runtime.backpressure import QUEUED_MAX, ask_for_echo, queued

SWITCH_INTERVAL_S = sys.getswitchinterval()
"""The switch interval of Python, in seconds."""
SWITCH_INTERVAL_EACH_S = 0.0001
"""The least switch interval for each connection, in seconds: all threads together then ask for the
interpreter some 20,000 times a second. Whoever computes for long lets others run by itself."""

log = structlog.get_logger(__name__)


class ConnectionThreads:
    """Starts a thread for each connection, and fits the switch interval to their number."""

    def __init__(self, spawn: Callable[..., Any]) -> None:
        self._spawn, self._lock, self._count = spawn, threading.Lock(), 0

    def start(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Run ``call(*arguments)`` in a thread of its own.

        Raises:
            RuntimeError: the process may have no more threads.
        """
        self._change(1)
        try:
            self._spawn(self._run, call, *arguments)
        except RuntimeError:
            self._change(-1)
            raise

    def _run(self, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            call(*arguments)
        finally:
            self._change(-1)

    def _change(self, by: int) -> None:
        with self._lock:
            self._count += by
            sys.setswitchinterval(max(SWITCH_INTERVAL_S, self._count * SWITCH_INTERVAL_EACH_S))


class EchoRounds:
    """Asks all switches for echoes, in one thread.

    ``ask`` asks one, and returns False once its connection is over.
    """

    def __init__(self, ask: Callable[[Any], bool] = ask_for_echo) -> None:
        self._ask_one, self._added = ask, threading.Condition()
        self._due: deque[tuple[float, Any]] = deque()
        """Whom to ask next, and when; all have the same interval, so the first is due first."""
        threading.Thread(target=self._run, name="echoes", daemon=True).start()

    def add(self, datapath: Any) -> None:
        """Ask a switch from now on, until its connection is over."""
        with self._added:
            self._due.appendleft((time.monotonic(), datapath))
            self._added.notify()

    def _run(self) -> None:
        while True:
            datapath = self._next()
            try:
                is_connected = self._ask(datapath)
            except Exception as problem:  # the edge of the thread: the others are asked still
                log.error("switch not asked for an echo", exc_info=problem)
                is_connected = datapath.send_q is not None
            if is_connected:
                with self._added:
                    self._due.append((time.monotonic() + datapath.echo_request_interval, datapath))

    def _ask(self, datapath: Any) -> bool:
        """Ask a switch; False if its connection is over.

        One that takes nothing would hold up this thread; what is sent to it times out by itself.
        """
        return queued(datapath) >= QUEUED_MAX // 2 or self._ask_one(datapath)

    def _next(self) -> Any:
        """Wait until a switch is due."""
        with self._added:
            while not self._due or self._due[0][0] > time.monotonic():
                self._added.wait(self._due[0][0] - time.monotonic() if self._due else None)
            return self._due.popleft()[1]


def serve_with_fewer_threads(datapath_class: Any, hub: Any) -> None:
    """Serve each connection with two threads: one receives, the other sends what had to wait.

    The library uses a third one for echoes, and wakes another thread for each send.
    """
    echoes = EchoRounds()

    def serve(datapath: Any) -> None:
        sender = hub.spawn(datapath._send_loop)
        datapath.send_msg(datapath.ofproto_parser.OFPHello(datapath))
        if datapath.max_unreplied_echo_requests:
            echoes.add(datapath)
        try:
            datapath._recv_loop()
        finally:
            hub.joinall([sender])
            datapath.is_active = False

    enqueue = datapath_class.send

    def send(datapath: Any, data: bytes, close_socket: bool = False) -> bool:
        """Send at once what the connection takes at once, and queue the rest."""
        connection = datapath.socket
        with connection.sending:
            is_first = not connection.unsent
            if is_first and data and not close_socket and datapath.send_q is not None:
                with suppress(OSError):  # it is over: whoever sends the rest finds out
                    data = data[connection.send_at_once(data) :]
                if not data:
                    return True
            connection.unsent += 1
            if is_first:  # the queue is empty: this blocks nobody, and nothing comes in between
                return bool(enqueue(datapath, data, close_socket))
        return bool(enqueue(datapath, data, close_socket))

    datapath_class.serve, datapath_class.send = serve, send
