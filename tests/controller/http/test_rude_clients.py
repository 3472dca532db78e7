"""Whatever clients do with their connections, the front ends them quietly and serves others."""

from __future__ import annotations

import contextlib
import random
import re
import resource
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.http import BodyLimit, FrontSettings, HttpsFiles
from tests.controller.http.certificates import ServerAuthority
from tests.controller.http.serving import DEADLINE_S, Serving, get, status_of, talk
from tests.ovs.waiting import wait_for

BODIES = (BodyLimit("/", 1000),)
SEED = 20
CLIENTS, STEPS = 120, 4
QUICK_S = 0.2
"""How long a request may take to arrive: deadlines pass while clients come and go."""
KEEP = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"
SENT = (
    b"", b"G", b"\r\n", b"\x16\x03\x01", KEEP, KEEP * 3, get("/echo"), get("/slow"), get("/large"),
    KEEP.replace(b"GET", b"HEAD"),
    b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.0\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: 1\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n",
    b"\x00" * 100, bytes(range(256)), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip


def reset(connection: socket.socket) -> None:
    """End a connection so that the other side cannot send any more."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half_close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


def no_traceback(serving: Serving) -> None:
    """What the front logs of clients is in whole sentences, and little."""
    log = serving.log()
    assert not re.search("Traceback|Exception|Error", log), log
    assert "socket.send() raised" not in log and "eof_received" not in log, log
    assert len(log.splitlines()) < 100, log


@pytest.fixture(params=["http", "https"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> HttpsFiles | None:
    return ServerAuthority(tmp_path).issue()[0] if request.param == "https" else None


@pytest.fixture
def serving(tls: HttpsFiles | None) -> Iterator[Serving]:
    with Serving("native", FrontSettings(bodies=BODIES, tls=tls)) as started:
        yield started


@pytest.fixture
def quick(tls: HttpsFiles | None) -> Iterator[Serving]:
    settings = FrontSettings(bodies=BODIES, request_seconds=QUICK_S, tls=tls)
    with Serving("native", settings) as started:
        yield started


def connect(serving: Serving, source: str = "127.0.0.1") -> socket.socket:
    """A connection, over TLS if the server speaks it."""
    connection = serving.connect(source)
    return wrapped(connection) if serving.is_tls else connection


def wrapped(connection: socket.socket) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connection)


def ask(serving: Serving, path: str, source: str = "127.0.0.1") -> int:
    with connect(serving, source) as connection:
        return status_of(talk(connection, get(path)))


@pytest.mark.parametrize("leave", [socket.socket.close, reset, half_close])
def test_a_client_that_is_gone_when_its_answer_comes(
    serving: Serving, leave: Callable[[socket.socket], None]
) -> None:
    left = [connect(serving) for _ in range(3)]
    for connection in left:
        connection.sendall(get("/slow"))
    with connect(serving, "127.0.0.2") as other:
        other.sendall(KEEP)
        assert other.recv(12) == b"HTTP/1.1 200"
    for connection in left:
        leave(connection)
    assert ask(serving, "/release", "127.0.0.3") == 200
    assert ask(serving, "/echo", "127.0.0.4") == 200
    for connection in left:
        connection.close()
    no_traceback(serving)


@pytest.mark.parametrize("leave", [socket.socket.close, reset, half_close])
def test_a_client_that_is_gone_in_the_middle_of_a_large_answer(
    serving: Serving, leave: Callable[[socket.socket], None]
) -> None:
    left = [connect(serving) for _ in range(3)]
    for connection in left:
        connection.sendall(get("/large"))
        assert connection.recv(12) == b"HTTP/1.1 200"
    for connection in left:
        leave(connection)
    assert ask(serving, "/echo", "127.0.0.4") == 200
    for connection in left:
        connection.close()
    no_traceback(serving)


def test_a_thousand_rude_steps(quick: Serving) -> None:
    """Clients that do anything at any time; deadlines pass meanwhile."""
    chance = random.Random(SEED)
    leaves = (socket.socket.close, reset, half_close)
    for number in range(CLIENTS):
        connection = quick.connect(f"127.0.0.{number % 20 + 1}")
        connection.settimeout(2 * QUICK_S)
        with contextlib.suppress(OSError, ValueError):
            if quick.is_tls and chance.random() < 0.8:
                connection = wrapped(connection)
            for _ in range(chance.randint(0, STEPS)):
                connection.sendall(chance.choice(SENT))
                if chance.random() < 0.3:
                    connection.recv(chance.choice((1, 1000, 100_000)))
            chance.choice(leaves)(connection)
        if chance.random() < 0.8:
            connection.close()
    for number, path in enumerate(("/release", "/echo")):
        wait_for(
            lambda: ask(quick, path, f"127.0.0.{90 + number}"),  # noqa: B023
            lambda status: status == 200,
            DEADLINE_S,
        )
    no_traceback(quick)


def test_a_front_without_a_free_file_says_so_once_and_goes_on_later(serving: Serving) -> None:
    assert ask(serving, "/echo") == 200
    front = serving.look()["front"]
    before = resource.prlimit(front, resource.RLIMIT_NOFILE)
    there = len(list(Path(f"/proc/{front}/fd").iterdir()))
    resource.prlimit(front, resource.RLIMIT_NOFILE, (there + 3, before[1]))
    waiting = [serving.connect(f"127.0.0.{n % 20 + 1}") for n in range(40)]
    for connection in waiting:
        connection.sendall(b"GET / HTTP/1.1\r\n")
    wait_for(serving.log, lambda log: "no client can connect" in log, DEADLINE_S)

    assert ask(serving, "/healthz", "127.0.0.99") == 200, "an idle one makes room"
    resource.prlimit(front, resource.RLIMIT_NOFILE, before)
    wait_for(serving.log, lambda log: "clients can connect again" in log, DEADLINE_S)

    assert ask(serving, "/echo", "127.0.0.98") == 200
    for connection in waiting:
        connection.close()
    log = serving.log()
    assert log.count("no client can connect") == log.count("clients can connect again") == 1
    assert "LimitNOFILE" in log
    no_traceback(serving)
