"""Many connections on native threads: one thread asks for echoes, and sends need none."""

from __future__ import annotations

import queue
import socket
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.runtime.admission import ConnectionAdmission
from controller.runtime.backpressure import QUEUED_MAX, SwitchSocket
from controller.runtime.native_threads import (
    SWITCH_INTERVAL_EACH_S,
    SWITCH_INTERVAL_S,
    ConnectionThreads,
    EchoRounds,
    serve_with_fewer_threads,
)
from tests.ovs.waiting import wait_for


@pytest.fixture(autouse=True)
def interval() -> Iterator[None]:
    yield
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def spawn(call: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    return thread


def test_the_switch_interval_follows_the_number_of_connections() -> None:
    threads, over = ConnectionThreads(spawn), threading.Event()
    for _ in range(10):
        threads.start(over.wait)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S), (
        "it is never shorter than that"
    )
    many = round(2 * SWITCH_INTERVAL_S / SWITCH_INTERVAL_EACH_S)
    for _ in range(many - 10):
        threads.start(over.wait)
    assert sys.getswitchinterval() == pytest.approx(2 * SWITCH_INTERVAL_S, abs=1e-5)
    over.set()
    wait_for(sys.getswitchinterval, lambda seen: seen == pytest.approx(SWITCH_INTERVAL_S))


def test_a_thread_that_cannot_be_started_does_not_count() -> None:
    def refuse(*arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    threads = ConnectionThreads(refuse)
    for _ in range(200):
        with pytest.raises(RuntimeError):
            threads.start(print)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)


class Asked:
    """A datapath of the library, as far as it is asked for echoes."""

    def __init__(self, interval_s: float = 0.01) -> None:
        self.echo_request_interval = interval_s
        self.send_q: Any = queue.Queue()
        self.count = 0


@pytest.fixture
def rounds() -> Iterator[EchoRounds]:
    over = threading.Event()

    def ask(datapath: Asked) -> bool:
        datapath.count += 1
        if datapath.count == 2 and datapath.echo_request_interval == 0.02:
            raise ValueError("of the library")
        return datapath.send_q is not None and not over.is_set()

    yield EchoRounds(ask)
    over.set()


def test_each_switch_is_asked_again_until_its_connection_is_over(rounds: EchoRounds) -> None:
    first, second = Asked(), Asked()
    rounds.add(first)
    rounds.add(second)
    wait_for(lambda: min(first.count, second.count), lambda seen: seen >= 3)
    first.send_q = None
    before = second.count
    wait_for(lambda: second.count, lambda seen: seen >= before + 2)
    ended = first.count
    wait_for(lambda: second.count, lambda seen: seen >= before + 5)
    assert first.count == ended


def test_a_switch_whose_sends_pile_up_is_not_asked_and_delays_nobody(rounds: EchoRounds) -> None:
    stuck, other = Asked(), Asked()
    for _ in range(QUEUED_MAX // 2):
        stuck.send_q.put(b"")
    rounds.add(stuck)
    rounds.add(other)
    wait_for(lambda: other.count, lambda seen: seen >= 3)
    assert stuck.count == 0
    stuck.send_q.get()
    wait_for(lambda: stuck.count, bool)


def test_an_error_of_one_switch_does_not_end_the_asking(rounds: EchoRounds) -> None:
    failing, other = Asked(0.02), Asked()
    with capture_logs() as logs:
        rounds.add(failing)
        rounds.add(other)
        wait_for(lambda: failing.count, lambda seen: seen >= 3)
    assert "switch not asked for an echo" in [entry["event"] for entry in logs]


class Sending:
    """A datapath of the library, as far as it sends: what had to wait is sent by ``send_one``."""

    def __init__(self, connection: socket.socket) -> None:
        admission = ConnectionAdmission()
        visit, _ = admission.enter(connection, "192.0.2.1", "192.0.2.1:1")
        assert visit is not None
        self.socket = SwitchSocket(connection, visit, admission)
        self.send_q: Any = queue.Queue()

    def send(self, data: bytes, close_socket: bool = False) -> bool:
        if self.send_q is None:
            return False
        self.send_q.put(data)
        return True

    def send_one(self) -> None:
        self.socket.sendall(self.send_q.get_nowait())


@pytest.fixture
def sending() -> Iterator[tuple[Any, socket.socket]]:
    class Class(Sending):
        pass

    serve_with_fewer_threads(Class, SimpleNamespace())
    ours, theirs = socket.socketpair()
    ours.settimeout(5.0)
    with ours, theirs:
        yield Class(ours), theirs


def received(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += peer.recv(count - len(data))
    return data


def test_what_the_socket_takes_is_sent_at_once(sending: tuple[Any, socket.socket]) -> None:
    datapath, theirs = sending
    assert datapath.send(b"one") and datapath.send(b"two")
    assert datapath.send_q.empty() and theirs.recv(100) == b"onetwo"


def test_the_rest_waits_and_nothing_overtakes_it(sending: tuple[Any, socket.socket]) -> None:
    datapath, theirs = sending
    large = bytes(range(256)) * (1 << 14)
    assert datapath.send(large) and datapath.send(b"later")
    assert datapath.send_q.qsize() == 2, "the rest, and what follows it"
    seen: list[bytes] = []
    drained = spawn(lambda: seen.append(received(theirs, len(large) + 5)))
    datapath.send_one()
    datapath.send(b"")
    assert datapath.send_q.qsize() == 2, "one is still to be sent"
    datapath.send_one()
    datapath.send_one()
    drained.join(10)
    assert seen == [large + b"later"]
    datapath.send(b"at once")
    assert datapath.send_q.empty() and theirs.recv(100) == b"at once"


def test_nothing_is_sent_after_the_end(sending: tuple[Any, socket.socket]) -> None:
    datapath, theirs = sending
    datapath.socket.close()
    assert datapath.send(b"kept for the thread that sends"), "it finds out"
    assert datapath.send_q.get_nowait() == b"kept for the thread that sends"
    datapath.send_q = None
    assert not datapath.send(b"nobody")
    assert theirs.recv(1) == b""


def test_a_tls_connection_takes_nothing_at_once() -> None:
    admission = ConnectionAdmission()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        visit, _ = admission.enter(ours, "192.0.2.1", "192.0.2.1:1")
        assert visit is not None
        assert (
            SwitchSocket(SimpleNamespace(fileno=ours.fileno), visit, admission).send_at_once(b"x")
            == 0
        )
