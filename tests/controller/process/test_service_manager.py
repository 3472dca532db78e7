"""systemd hears from the controller what it asks for, and nothing from one that hangs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.process import LOOP_MONITOR, LOOP_SILENCE_S, ServiceManager


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(str(tmp_path / "notify"))
        own.setblocking(False)
        yield own


def words(heard: socket.socket) -> list[bytes]:
    """All that was heard since the last look."""
    found = []
    while True:
        try:
            found.append(heard.recv(100))
        except BlockingIOError:
            return found


def test_it_is_told_that_the_controller_has_started_lives_and_stops(heard: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "20000000", "HOME": "/"}
    environment["WATCHDOG_PID"] = str(os.getpid())
    manager = ServiceManager(environment)
    manager.tell_started()
    assert manager.tell_alive() == 5.0
    manager.tell_stopping()
    assert words(heard) == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
    assert environment == {"HOME": "/"}, "children have nothing to tell"


def test_a_loop_that_hangs_is_not_alive(
    heard: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "20000000"})
    monkeypatch.setattr(LOOP_MONITOR, "silence", lambda: LOOP_SILENCE_S + 0.1)
    assert manager.tell_alive() == 5.0
    assert words(heard) == []
    monkeypatch.undo()
    manager.tell_alive()
    assert words(heard) == [b"WATCHDOG=1"]


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"},
    ],
)
def test_without_a_watchdog_of_its_own_it_says_nothing_about_its_life(
    heard: socket.socket, watchdog: dict[str, str]
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": heard.getsockname(), **watchdog})
    assert manager.watchdog_s is None and manager.tell_alive() > 60
    assert words(heard) == []


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody-listens-here"])
def test_a_service_manager_that_cannot_be_told_is_no_reason_to_stop(address: str) -> None:
    ServiceManager({"NOTIFY_SOCKET": address} if address else {}).tell_started()
