"""The HTTP edge with real processes and sockets: who is idle, slow, hostile or killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from controller.http import ApiAddressInUse, BodyLimit, FrontSettings, HttpServer, token_digest
from flows.errors import CloudtapError
from tests.controller.http.serving import (
    DEADLINE_S,
    LARGE,
    Serving,
    application,
    get,
    status_of,
    talk,
)
from tests.ovs.waiting import wait_for

SETTINGS = FrontSettings(
    bodies=(BodyLimit("/large-body", 1 << 20), BodyLimit("/", 1000)),
    names=("localhost", "127.0.0.1"),
)
TOKEN, NEW_TOKEN = "a-token-of-this-test", "another-token-of-this-test"
QUICK = FrontSettings(bodies=SETTINGS.bodies, request_seconds=1.0)
NEVER = FrontSettings(bodies=SETTINGS.bodies, request_seconds=3600.0)
"""No deadline helps: room is made for those who ask."""
TIGHT = FrontSettings(bodies=SETTINGS.bodies, request_seconds=3600.0, answers_bytes=4 * LARGE)
GUARDED = FrontSettings(bodies=SETTINGS.bodies, token_digest=token_digest(TOKEN))
REQUEST = get("/echo")


@pytest.fixture(params=["native", "green"])
def serving(request: pytest.FixtureRequest) -> Iterator[Serving]:
    with Serving(request.param, NEVER) as started:
        yield started


@pytest.fixture(scope="module")
def shared() -> Iterator[Serving]:
    """One server for tests that leave it as it was."""
    with Serving("native", SETTINGS) as started:
        yield started


def document(answer: bytes) -> dict[str, object]:
    """The JSON of an answer."""
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


def test_a_request_reaches_the_application_whole(serving: Serving) -> None:
    answer = serving.exchange(
        b"POST /a%20b%2Fc?x=1&y HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: text/plain\r\nContent-Type_: x\r\nTransfer-Encoding: chunked\r\n"
        b"X-Other: 1\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: 1\r\n\r\n"
    )

    assert status_of(answer) == 200, answer
    seen = document(answer)
    assert seen["length"] == 7
    assert seen["environ"] == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b%2Fc",
        "QUERY_STRING": "x=1&y",
        "CONTENT_LENGTH": "7",
        "CONTENT_TYPE": "text/plain",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(serving.address[1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
    }
    assert b"\r\nServer: cloudtap\r\n" in answer and b"\r\nDate: " in answer


def test_the_status_line_has_the_words_of_the_standard(shared: Serving) -> None:
    """Those of Python's http module change with its version."""
    answer = shared.exchange(get("/echo", "Content-Length: 999999999"))
    assert answer.startswith(b"HTTP/1.1 413 Content Too Large\r\n")


def test_requests_of_one_connection_are_answered_in_their_order(serving: Serving) -> None:
    first = REQUEST.replace(b"Connection: close\r\n", b"")

    answer = serving.exchange(first + first.replace(b"GET", b"HEAD") + get("/last"))

    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.count(b'"PATH_INFO": "/echo"') == 1, "HEAD has no body"
    assert b'"PATH_INFO": "/last"' in answer


def test_a_client_that_sends_no_more_still_gets_its_answer(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(REQUEST)
        connection.shutdown(socket.SHUT_WR)
        assert status_of(talk(connection, b"")) == 200


@pytest.mark.parametrize("count", [8, 200, 311])
def test_idle_and_trickling_connections_cost_nothing_to_others(
    serving: Serving, count: int
) -> None:
    beginnings = [b"", b"GET", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nHost: a\r\n"]
    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"
    idle = [serving.connect() for _ in range(count)]
    for index, connection in enumerate(idle):
        connection.sendall([*beginnings, body][index % 5])

    for path in ("/echo", "/healthz", "/readyz"):
        assert serving.status(get(path)) == 200

    for connection in idle:
        connection.close()
    assert "Traceback" not in serving.log()


def test_a_connection_that_was_served_is_kept_while_others_only_open_theirs(
    serving: Serving,
) -> None:
    kept = http.client.HTTPConnection(*serving.address, timeout=DEADLINE_S)
    kept.connect()
    kept.auto_open = 0
    for _ in range(3):
        kept.request("GET", "/echo")
        answer = kept.getresponse()
        assert answer.status == 200 and answer.read()
        idle = [serving.connect() for _ in range(100)]
        for connection in idle:
            connection.close()
    kept.close()


def test_slow_work_of_one_client_delays_neither_health_nor_other_clients(
    serving: Serving,
) -> None:
    busy = [serving.connect() for _ in range(60)]
    for connection in busy:
        connection.sendall(get("/slow"))

    assert serving.status(get("/echo"), source="127.0.0.2") == 200
    assert serving.status(get("/healthz")) == 200
    assert serving.status(get("/readyz")) == 200
    assert serving.status(get("/release"), source="127.0.0.3") == 200
    answers = [status_of(talk(connection, b"")) for connection in busy]

    assert set(answers) == {200, 503} and answers.count(200) == 48, answers


@pytest.mark.parametrize("hub", ["native", "green"])
def test_who_does_not_read_the_answer_costs_little_memory_and_nobody_else(hub: str) -> None:
    with Serving(hub, TIGHT) as tight:
        assert tight.status(REQUEST) == 200
        _, before = tight.memory()
        stalled = [tight.connect() for _ in range(40)]
        for connection in stalled:
            connection.sendall(get("/large"))
        answer = wait_for(
            lambda: tight.exchange(get("/large")), lambda seen: status_of(seen) == 200, DEADLINE_S
        )
        assert len(answer) > LARGE
        assert tight.memory()[1] - before < 20 * LARGE, "of 40 answers"
        for connection in stalled:
            connection.close()


def test_headers_without_end_are_refused_before_they_are_in_memory(serving: Serving) -> None:
    assert serving.status(REQUEST) == 200
    before, most = sum(serving.memory()), 700 << 20
    for start in (b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"):
        sent = 0
        with serving.connect() as connection:
            try:
                connection.sendall(start)
                while sent < most:
                    sent += connection.send(
                        b"a: b\r\n" * 10000 if start[-1:] == b"\n" else b"a" * 60000
                    )
            except (ConnectionResetError, BrokenPipeError):
                pass
        assert sent < 64 << 20, "kernel buffers and what is dropped after the refusal"
    assert serving.status(b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n") == 431
    assert serving.status(get("/echo", "X: " + "a" * 20000)) == 431
    assert sum(serving.memory()) - before < 64 << 20


def test_a_killed_front_comes_back_and_the_controller_goes_on(serving: Serving) -> None:
    assert serving.status(REQUEST) == 200
    first = serving.look()["front"]

    os.kill(first, signal.SIGKILL)

    assert wait_for(lambda: serving.status(REQUEST), lambda s: s == 200, DEADLINE_S) == 200
    seen = serving.look()
    assert seen["front"] not in (first, None)
    assert seen["problems"] == [
        "the HTTP front was killed by SIGKILL, and has been started again: see the log"
    ]
    assert serving.log().count("child process ended") == 1


def test_connections_wait_while_the_front_is_away(serving: Serving) -> None:
    assert serving.status(REQUEST) == 200
    front = serving.look()["front"]
    os.kill(front, signal.SIGSTOP)
    with serving.connect() as connection:  # the kernel accepts it for whoever comes
        os.kill(front, signal.SIGKILL)
        assert status_of(talk(connection, REQUEST)) == 200


def test_the_front_ends_with_a_killed_controller_and_the_address_is_free(serving: Serving) -> None:
    assert serving.status(REQUEST) == 200
    serving.kill()

    again = HttpServer(application, *serving.address, SETTINGS)
    again.start()
    with socket.create_connection(again.address, DEADLINE_S) as connection:
        assert status_of(talk(connection, REQUEST)) == 200
    again.stop()
    again.stop()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(again.address, DEADLINE_S)


def test_a_stopped_server_ends_in_order(serving: Serving) -> None:
    assert serving.status(REQUEST) == 200
    assert serving.stop() == 0
    assert "Traceback" not in serving.log() and "ended" not in serving.log()


def test_a_server_that_stops_answers_what_has_arrived(serving: Serving) -> None:
    with serving.connect() as connection, serving.connect() as idle:
        connection.sendall(get("/brief"))
        serving.wait_for_word("begun")

        assert serving.stop() == 0

        assert status_of(talk(connection, b"")) == 200
        assert talk(idle, b"") == b""
    assert "Traceback" not in serving.log() and "ended" not in serving.log()


def test_an_application_that_raises_is_answered_and_logged(serving: Serving) -> None:
    assert serving.status(get("/broken")) == 500
    assert serving.status(REQUEST) == 200
    wait_for(serving.log, lambda log: "as the test wants" in log, DEADLINE_S)


@pytest.mark.parametrize(
    "start", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1"]
)
def test_a_request_that_does_not_arrive_in_time_is_answered_408(start: bytes) -> None:
    with Serving("native", QUICK) as quick, quick.connect() as connection:
        connection.sendall(start)
        assert status_of(talk(connection, b"")) == 408


def test_an_idle_connection_and_one_that_is_not_read_are_closed_in_time() -> None:
    with Serving("native", QUICK) as quick:
        with quick.connect() as connection:
            assert talk(connection, b"") == b""
        with quick.connect() as connection:
            connection.sendall(get("/large"))
            wait_for(
                lambda: b"ESTAB" in _tcp_state(connection), lambda is_open: not is_open, DEADLINE_S
            )


def carrying(token: str) -> bytes:
    """A request with a token; the connection stays open."""
    return (
        f"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )


@pytest.mark.parametrize("hub", ["native", "green"])
def test_a_new_token_counts_also_on_open_connections_and_for_the_next_front(hub: str) -> None:
    def ask(token: str) -> int:
        """On a connection of its own: one is closed after a wrong token."""
        return serving.status(get("/v1/x", f"Authorization: Bearer {token}"))

    with Serving(hub, GUARDED) as serving:
        with serving.connect() as staying:
            staying.sendall(carrying(TOKEN))
            assert status_of(staying.recv(65536)) == 200
            serving.use_token(NEW_TOKEN)
            wait_for(lambda: ask(NEW_TOKEN), lambda status: status == 200, DEADLINE_S)
            staying.sendall(carrying(TOKEN))
            assert status_of(staying.recv(65536)) == 401
        front = serving.look()["front"]
        os.kill(front, signal.SIGKILL)
        wait_for(lambda: serving.look()["front"], lambda pid: pid not in (None, front), DEADLINE_S)
        assert (ask(NEW_TOKEN), ask(TOKEN)) == (200, 401)


def test_no_body_is_read_before_the_token_is_known() -> None:
    with Serving("native", GUARDED) as guarded:
        head = "POST /large-body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n"
        for line in ("", "Authorization: Bearer wrong\r\n", f"Authorization: Basic {TOKEN}\r\n"):
            answer = guarded.exchange(f"{head}{line}\r\n".encode())
            assert status_of(answer) == 401 and b"WWW-Authenticate: Bearer" in answer
        assert b"not the token" in guarded.exchange(get("/v1", "Authorization: Bearer wrong"))
        assert guarded.status(get("/v1", f"Authorization: bearer {TOKEN}")) == 200
        assert guarded.status(get("/healthz")) == 200


def test_an_address_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ApiAddressInUse, match=f"port {port}: the port is in use") as refused:
            HttpServer(application, "127.0.0.1", port, SETTINGS)
    assert isinstance(refused.value, CloudtapError)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(ApiAddressInUse, match=r"192\.0\.2\.1 port 9: Cannot assign"):
        HttpServer(application, "192.0.2.1", 9, SETTINGS)


def _tcp_state(connection: socket.socket) -> bytes:
    """ESTAB while the other side has not closed or reset."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return b"ESTAB" if info == b"\x01" else b""
