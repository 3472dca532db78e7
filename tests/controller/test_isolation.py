"""Switches that take nothing, or send too much, are cut off; and nobody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from controller.runtime import backpressure as isolation
from controller.runtime.backpressure import FLOOD_MESSAGES, FLOOD_SECONDS, FloodGuard, Patient

ADDRESS = ("192.0.2.1", 40000)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sentences about switches that were cut off."""
    sentences: list[str] = []
    monkeypatch.setattr(isolation, "_callbacks", [lambda address, why: sentences.append(why)])
    return sentences


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def datapath_of(connection: socket.socket) -> Any:
    return SimpleNamespace(socket=connection, address=ADDRESS)


def test_a_switch_that_takes_nothing_is_cut_off(
    told: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    ours.settimeout(0.05)
    with pytest.raises(TimeoutError):
        Patient(ours, ADDRESS).sendall(bytes(1 << 24))
    (why,) = told
    assert why.startswith("the switch at 192.0.2.1:40000 was cut off: it took nothing")
    while theirs.recv(1 << 20):
        pass  # it ends, so the connection was ended


def test_a_patient_socket_is_the_socket_otherwise(
    told: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    patient = Patient(ours, ADDRESS)
    patient.sendall(b"hello")
    assert theirs.recv(100) == b"hello"
    theirs.sendall(b"you")
    assert patient.recv(100) == b"you"
    assert patient.fileno() == ours.fileno()
    assert not told


def test_a_flood_is_cut_off_once_and_looked_at_no_more(
    told: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    guard, datapath = FloodGuard(lambda: 100.0), datapath_of(ours)
    welcome = [guard.is_welcome(datapath) for _ in range(FLOOD_MESSAGES + 50)]
    assert welcome == [True] * FLOOD_MESSAGES + [False] * 50
    (why,) = told
    assert "messages in 5 s that nobody asked for" in why
    assert theirs.recv(1) == b""


def test_as_much_in_more_time_is_no_flood(
    told: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    now = 100.0

    def clock() -> float:
        nonlocal now
        now += 1.1 * FLOOD_SECONDS / FLOOD_MESSAGES
        return now

    guard, datapath = FloodGuard(clock), datapath_of(pair[0])
    assert all(guard.is_welcome(datapath) for _ in range(3 * FLOOD_MESSAGES))
    assert not told


def test_one_switchs_flood_is_not_another_ones(
    told: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    guard, one, other = FloodGuard(lambda: 100.0), datapath_of(pair[0]), datapath_of(pair[1])
    for _ in range(FLOOD_MESSAGES):
        assert guard.is_welcome(one)
    assert guard.is_welcome(other)
