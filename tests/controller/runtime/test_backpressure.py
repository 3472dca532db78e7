"""Switches that read nothing or send too much are disconnected, and no others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from controller.runtime import backpressure
from controller.runtime.admission import ConnectionAdmission
from controller.runtime.backpressure import (
    MESSAGES_MAX,
    WINDOW_SECONDS,
    MessageRateLimit,
    SwitchSocket,
    ask_for_echo,
)

ADDRESS = ("192.0.2.1", 40000)


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sentences about switches that were disconnected."""
    sentences: list[str] = []
    monkeypatch.setattr(backpressure, "_callbacks", [lambda address, why: sentences.append(why)])
    return sentences


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def switch_socket(connection: socket.socket) -> SwitchSocket:
    admission = ConnectionAdmission()
    visit, _ = admission.enter(connection, ADDRESS[0], f"{ADDRESS[0]}:{ADDRESS[1]}")
    assert visit is not None
    return SwitchSocket(connection, visit, admission)


def datapath_of(connection: socket.socket) -> Any:
    return SimpleNamespace(socket=switch_socket(connection), address=ADDRESS)


def test_a_switch_that_reads_nothing_is_disconnected(
    reported: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    ours.settimeout(0.05)
    with pytest.raises(TimeoutError):
        switch_socket(ours).sendall(bytes(1 << 24))
    (why,) = reported
    assert why.startswith("the switch at 192.0.2.1:40000 was cut off: it took nothing")
    while theirs.recv(1 << 20):
        pass  # it ends, so the connection was closed


def test_the_wrapped_socket_is_otherwise_the_socket(
    reported: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    wrapped = switch_socket(ours)
    wrapped.sendall(b"hello")
    assert theirs.recv(100) == b"hello"
    theirs.sendall(b"you")
    assert wrapped.recv(100) == b"you"
    assert wrapped.fileno() == ours.fileno()
    assert not reported


def test_a_flood_disconnects_once_and_later_messages_are_dropped(
    reported: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    limit, datapath = MessageRateLimit(lambda: 100.0), datapath_of(ours)
    allowed = [limit.is_allowed(datapath) for _ in range(MESSAGES_MAX + 50)]
    assert allowed == [True] * MESSAGES_MAX + [False] * 50
    (why,) = reported
    assert "messages in 5 s that nobody asked for" in why
    assert theirs.recv(1) == b""


def test_as_many_messages_in_more_time_are_allowed(
    reported: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    now = 100.0

    def clock() -> float:
        nonlocal now
        now += 1.1 * WINDOW_SECONDS / MESSAGES_MAX
        return now

    limit, datapath = MessageRateLimit(clock), datapath_of(pair[0])
    assert all(limit.is_allowed(datapath) for _ in range(3 * MESSAGES_MAX))
    assert not reported


def test_the_limit_is_for_each_switch(
    reported: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    limit, one, other = MessageRateLimit(lambda: 100.0), datapath_of(pair[0]), datapath_of(pair[1])
    for _ in range(MESSAGES_MAX):
        assert limit.is_allowed(one)
    assert limit.is_allowed(other)


class AskedForEchoes:
    """A datapath of the libraries, as far as it is asked for echoes."""

    max_unreplied_echo_requests = 2
    ofproto_parser = SimpleNamespace(OFPEchoRequest=lambda datapath: "request")

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.send_q = switch_socket(connection), object()
        self.unreplied_echo_requests: list[int] = []
        self.is_closed = False

    def set_xid(self, request: str) -> int:
        return len(self.unreplied_echo_requests)

    def send_msg(self, request: str) -> bool:
        self.socket.sendall(request.encode())
        return True

    def close(self) -> None:
        self.is_closed = True


def test_a_switch_that_answers_no_echo_is_cut_off_unless_its_answer_was_not_read_yet(
    reported: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    datapath = AskedForEchoes(ours)
    assert all(ask_for_echo(datapath) for _ in range(3))
    assert theirs.recv(100) == b"request" * 3
    theirs.sendall(b"an answer")
    assert ask_for_echo(datapath) and ask_for_echo(datapath)
    assert not reported and not datapath.is_closed and len(datapath.unreplied_echo_requests) == 3

    assert ours.recv(100) == b"an answer"
    assert not ask_for_echo(datapath)
    assert datapath.is_closed and "it answered none of 3 echo requests" in reported[0]
    assert theirs.recv(1) == b""


def test_nobody_is_asked_for_an_echo_after_its_connection(
    reported: list[str], pair: tuple[socket.socket, socket.socket]
) -> None:
    datapath = AskedForEchoes(pair[0])
    datapath.send_q = None
    assert not ask_for_echo(datapath) and not reported
