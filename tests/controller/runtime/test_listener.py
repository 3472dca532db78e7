"""The server that switches connect to goes on, whatever one connection does to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest
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


class Accepting:
    """A listener that accepts in a thread; ``served`` are the addresses that it has served."""

    def __init__(self) -> None:
        self.threads, self.admission = Threads(), ConnectionAdmission()
        self.served: list[Any] = []
        self._listener = module.Listener(
            ("127.0.0.1", 0),
            lambda connection, address: self.served.append(address),
            spawn=self.threads.spawn,
            fail=_fail,
            admission=self.admission,
        )
        self._address = self._listener._socket.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def connect(self) -> None:
        """Connect, and wait until the connection is over."""
        with socket.create_connection(self._address, 10) as peer:
            assert peer.recv(1) == b""

    def end(self) -> None:
        """Wait until what was connected before is dealt with, and accept no more."""
        self.threads.is_over = True
        with socket.create_connection(self._address, 10):
            self._thread.join(10)
        assert not self._thread.is_alive()
        self._listener._socket.close()

    def _serve(self) -> None:
        with suppress(TheEnd):
            self._listener.serve_forever()


def test_a_limit_of_threads_costs_connections_and_not_the_listener() -> None:
    accepting = Accepting()
    with capture_logs() as logs:
        accepting.connect()
        accepting.connect()
        assert accepting.served == [] and accepting.admission.count(Stay.UNFINISHED) == 0
        accepting.threads.left = 1
        accepting.connect()
        assert len(accepting.served) == 1
        accepting.end()
    events = [entry["event"] for entry in logs]
    assert events == ["no switch can connect", "switches can connect again"]
    assert "TasksMax" in logs[0]["remedy"]


@pytest.mark.parametrize(("pause_s", "times"), [(60.0, 1), (0.0, 3)])
def test_a_limit_that_each_connection_reaches_is_said_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, pause_s: float, times: int
) -> None:
    monkeypatch.setattr(module, "SAID_EVERY_S", pause_s)
    accepting = Accepting()
    with capture_logs() as logs:
        for _ in range(3):
            accepting.connect()
            accepting.threads.left = 1
            accepting.connect()
        accepting.end()
    events = [entry["event"] for entry in logs]
    assert events == ["no switch can connect", "switches can connect again"] * times
