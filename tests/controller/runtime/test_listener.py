"""The server that switches connect to goes on, whatever one connection does to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from structlog.testing import capture_logs

from controller.runtime import listener as module
from controller.runtime.admission import ConnectionAdmission, Stay


class TheEnd(Exception):
    """Ends the thread that accepts connections."""


class Threads:
    """Starts threads for a listener, as long as there may be more."""

    def __init__(self) -> None:
        self.left = 0
        self.is_over = False

    def spawn(self, function: Callable[..., Any], *arguments: Any) -> None:
        if function.__name__ != "_serve":  # it looks for overdue handshakes for ever
            return
        if self.is_over:
            raise TheEnd
        if not self.left:
            raise RuntimeError("can't start new thread")
        self.left -= 1
        threading.Thread(target=function, args=arguments, daemon=True).start()


def _fail(error: Exception) -> NoReturn:
    raise error


def test_a_limit_of_threads_costs_connections_and_not_the_listener() -> None:
    threads, admission = Threads(), ConnectionAdmission()
    served: list[Any] = []
    listener = module.Listener(
        ("127.0.0.1", 0),
        lambda connection, address: served.append(address),
        spawn=threads.spawn,
        fail=_fail,
        admission=admission,
    )
    address = listener._socket.getsockname()

    def serve() -> None:
        with suppress(TheEnd):
            listener.serve_forever()

    accepting = threading.Thread(target=serve, daemon=True)
    accepting.start()

    def connect() -> None:
        """Connect, and wait until the connection is over."""
        with socket.create_connection(address, 10) as peer:
            assert peer.recv(1) == b""

    with capture_logs() as logs:
        connect()
        connect()
        assert served == [] and admission.count(Stay.UNFINISHED) == 0
        threads.left = 1
        connect()
        assert len(served) == 1
        threads.is_over = True
        with socket.create_connection(address, 10):
            accepting.join(10)
    assert not accepting.is_alive()
    listener._socket.close()
    events = [entry["event"] for entry in logs]
    assert events == ["no switch can connect", "switches can connect again"]
    assert "TasksMax" in logs[0]["remedy"]
