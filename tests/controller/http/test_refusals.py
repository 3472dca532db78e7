"""What the front refuses, byte by byte, and a fuzzer of requests that it must survive."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from controller.http import BodyLimit, FrontSettings
from tests.controller.http.serving import DEADLINE_S, Serving, get, status_of, talk

SETTINGS = FrontSettings(
    bodies=(BodyLimit("/", 1000),), names=("localhost", "127.0.0.1", "tap.example")
)
ROUNDS, SEED = 400, 1


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with Serving("native", SETTINGS) as started:
        yield started


def post(*fields: str, body: bytes = b"", version: str = "1.1", path: str = "/echo") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: localhost", "Connection: close", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


CHUNKED = "Transfer-Encoding: chunked"

CASES: list[tuple[str, bytes, int]] = [
    ("a chunk size of 20 digits", post(CHUNKED, body=b"ffffffffffffffffffff\r\nabc"), 400),
    ("a chunk size alone", post(CHUNKED, body=b"ffffffffffffffffffff\r\n"), 400),
    ("a chunk size of 21 digits", post(CHUNKED, body=b"f" * 21 + b"\r\nabc"), 400),
    ("a chunk size without end", post(CHUNKED, body=b"0" * 30000), 431),
    ("a chunk of 2 GB", post(CHUNKED, body=b"7fffffff\r\nabc"), 413),
    ("a chunk size with a sign", post(CHUNKED, body=b"-1\r\nabc"), 400),
    ("a chunk size in hexadecimal notation", post(CHUNKED, body=b"0x3\r\nabc\r\n0\r\n\r\n"), 400),
    ("a chunk that is longer than it says", post(CHUNKED, body=b"3\r\nabcd\r\n0\r\n\r\n"), 400),
    ("chunks that are too long together", post(CHUNKED, body=b"3ff\r\n" + b"a" * 1023), 413),
    ("chunks of one byte", post(CHUNKED, body=b"1\r\na\r\n" * 1001), 413),
    ("a trailer without end", post(CHUNKED, body=b"0\r\nX: " + b"a" * 20000), 431),
    ("both lengths", post(CHUNKED, "Content-Length: 3", body=b"0\r\n\r\n"), 400),
    ("chunks in HTTP/1.0", post(CHUNKED, body=b"0\r\n\r\n", version="1.0"), 400),
    ("an unknown coding", post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    ("two codings", post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 501),
    ("two lengths", post("Content-Length: 1", "Content-Length: 2", body=b"ab"), 400),
    ("one length twice", post("Content-Length: 1", "Content-Length: 1", body=b"a"), 200),
    ("a negative length", post("Content-Length: -1"), 400),
    ("a length with a plus", post("Content-Length: +1", body=b"a"), 400),
    ("a length of 5,000 digits", post("Content-Length: " + "9" * 5000), 400),
    ("a length of 20 digits", post("Content-Length: " + "9" * 20), 413),
    ("a body that is too long", post("Content-Length: 1001"), 413),
    ("a body that fits", post("Content-Length: 1000", body=b"a" * 1000), 200),
    ("HTTP/0.9", b"GET /\r\n\r\n", 400),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("HTTP/1.2", get("/echo").replace(b"1.1", b"1.2"), 505),
    ("a greeting of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, 400),
    ("no host", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    ("two hosts", get("/echo", "Host: localhost"), 400),
    ("HTTP/1.0 without a host", b"GET / HTTP/1.0\r\n\r\n", 200),
    ("a foreign host", get("/echo").replace(b"localhost", b"evil.example"), 421),
    ("HEAD of a foreign host", get("/").replace(b"GET", b"HEAD").replace(b"localhost", b"e"), 421),
    ("a foreign host for health", get("/healthz").replace(b"localhost", b"evil.example"), 421),
    (
        "a host that begins like ours",
        get("/").replace(b"localhost", b"localhost.evil.example"),
        421,
    ),
    ("a foreign address", get("/echo").replace(b"localhost", b"192.0.2.1:80"), 421),
    ("a host with a user", get("/echo").replace(b"localhost", b"localhost@evil.example"), 400),
    ("an empty host", get("/echo").replace(b" localhost", b" "), 400),
    ("our address", get("/echo").replace(b"localhost", b"127.0.0.1:1"), 200),
    ("our address as a number", get("/echo").replace(b"localhost", b"2130706433"), 421),
    ("a configured name", get("/echo").replace(b"localhost", b"TAP.example.:80"), 200),
    ("an absolute target", get("http://localhost:1/echo"), 200),
    ("an absolute target without a path", get("http://localhost"), 200),
    ("an absolute target elsewhere", get("http://evil.example/echo"), 421),
    ("an absolute target with a user", get("http://localhost@evil.example/"), 400),
    ("another scheme", get("ftp://localhost/"), 400),
    ("a target that is a host", get("localhost:80").replace(b"GET", b"CONNECT"), 501),
    ("a star", get("*").replace(b"GET", b"OPTIONS"), 400),
    ("an unknown method", get("/").replace(b"GET", b"BREW"), 501),
    ("a method without end", b"A" * 20000, 431),
    ("TRACE", get("/").replace(b"GET", b"TRACE"), 501),
    ("a zero byte in the path", get("/a%00b"), 400),
    ("half an escape", get("/a%2"), 400),
    ("a fragment", get("/a#b"), 400),
    ("a raw byte in the path", get("/a").replace(b"/a", b"/\xff"), 400),
    ("a path of 9,000 bytes", get("/" + "a" * 9000), 414),
    ("a query of 9,000 bytes", get("/?" + "a" * 9000), 414),
    ("1,000 parameters", get("/?" + "a&" * 1000), 400),
    ("100 header fields", get("/echo", *(f"X-{n}: 1" for n in range(100))), 431),
    ("a header field without a name", get("/echo", ": 1"), 400),
    ("a space before the colon", get("/echo", "X : 1"), 400),
    ("a zero byte in a header", get("/echo", "X: a\0b"), 400),
    ("a carriage return in a header", get("/echo", "X: a\rb"), 400),
    ("our page", get("/echo", "Origin: http://localhost"), 200),
    ("a page of another site", get("/echo", "Origin: http://evil.example"), 403),
    ("a page without a site", get("/echo", "Origin: null"), 403),
    ("a page over HTTPS", get("/echo", "Origin: https://localhost"), 403),
    ("a page at another port", get("/echo", "Origin: http://localhost:8080"), 403),
    ("a browser that says so", get("/echo", "Sec-Fetch-Site: cross-site"), 403),
    ("an unknown expectation", post("Expect: 200-ok", "Content-Length: 1", body=b"a"), 417),
    ("an upgrade", get("/echo", "Connection: upgrade", "Upgrade: websocket"), 200),
    ("an upgrade to HTTP/2", get("/echo", "Upgrade: h2c", "HTTP2-Settings: a"), 200),
    ("two keys", post("Idempotency-Key: a", "Idempotency-Key: b", "Content-Length: 0"), 400),
    ("an empty line first", b"\r\n" + get("/echo"), 400),
]


@pytest.mark.parametrize(
    ("request_bytes", "status"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_request_gets_its_status(serving: Serving, request_bytes: bytes, status: int) -> None:
    answer = serving.exchange(request_bytes)

    assert status_of(answer) == status, answer
    if status >= 400:
        assert b"Traceback" not in serving.log().encode()
        assert b"application/problem+json" in answer and b"Connection: close" in answer
        assert answer.count(b"Server: cloudtap") == 1


def test_a_body_is_asked_for_only_if_it_will_be_read(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(post("Expect: 100-continue", "Content-Length: 3"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        assert status_of(talk(connection, b"abc")) == 200
    too_long = post("Expect: 100-continue", "Content-Length: 1001")
    assert serving.exchange(too_long).startswith(b"HTTP/1.1 413 ")


def test_what_follows_a_refused_request_is_not_a_request(serving: Serving) -> None:
    smuggled = post(CHUNKED, "Content-Length: 4", body=b"0\r\n\r\n") + get("/smuggled")

    assert serving.exchange(smuggled).count(b"HTTP/1.1 ") == 1


def test_many_small_chunks_of_a_large_body_are_refused() -> None:
    """Each costs thousands of times what a byte costs."""
    with Serving("native", FrontSettings(bodies=(BodyLimit("/", 1 << 20),))) as large:
        assert large.status(post(CHUNKED, body=b"1\r\na\r\n" * 5000)) == 400
        body = b"80\r\n" + b"a" * 128 + b"\r\n"
        assert large.status(post(CHUNKED, body=body * 4000 + b"0\r\n\r\n")) == 200


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_random_requests_are_answered_or_refused_and_never_harm(
    serving: Serving, seed: int
) -> None:
    front, dice = serving.look()["front"], random.Random(seed)
    for number in range(ROUNDS // 4):
        request = random_request(dice)
        try:
            status = _answer_to(serving, request)
        except TimeoutError:
            raise AssertionError(
                f"seed {seed}, request {number}: no answer to {request!r}"
            ) from None
        assert status in (0, 200) or 400 <= status < 500 or status in (501, 505), (status, request)
    assert serving.look()["front"] == front
    assert serving.status(get("/echo")) == 200
    assert "Traceback" not in serving.log()


def _answer_to(serving: Serving, request: bytes) -> int:
    """The status of the answer; the client says that it sends no more, so none may wait."""
    with serving.connect() as connection:
        connection.settimeout(DEADLINE_S)
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # refused and reset already
            pass
        return status_of(talk(connection, b""))


METHODS = ("GET", "POST", "HEAD", "PATCH", "get", "G E T", "", "\0", "DELETE")
TARGETS = (
    "/",
    "/echo",
    "/healthz",
    "//",
    "/%2e%2e/",
    "http://localhost/",
    "*",
    "",
    "/?a=1&b",
    "/\xe4",
)
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/1.1 ", "http/1.1", "HTTP/11", "")
FIELDS = (
    *("Host: localhost", "Host: localhost:99999", "Host:", "host: LOCALHOST"),
    *("Content-Length: 5", "Content-Length: 0", "Content-Length: 5, 5", "Content-Length: 0x5"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: CHUNKED", "Transfer-Encoding: identity"),
    *("Connection: close", "Connection: keep-alive", "Connection: upgrade", "Upgrade: h2c"),
    *("Expect: 100-continue", "Authorization: Bearer x", "Idempotency-Key: \xff", "Origin: x"),
    *(" folded", "X", "X:" + "a" * 5000, "X: \x7f", "Content-Type: application/json"),
)
BODIES = (
    *(
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n",
        b"0\r\n\r\n",
    ),
    *(b"ffffffffffffffffffff\r\n", b"5\nhello\n0\n\n", b"\r\n\r\n", b"x" * 3000),
)
ENDS = ("\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n\r\n")


def random_request(dice: random.Random) -> bytes:
    """One or two requests of parts that are right, nearly right or wrong, perhaps damaged."""
    data = b"".join(_random_part(dice) for _ in range(dice.choice((1, 1, 2))))
    for _ in range(dice.choice((0, 0, 1, 3))):
        at = dice.randrange(len(data) + 1)
        damage: Any = dice.choice(("cut", "change", "repeat", "insert"))
        if damage == "cut":
            data = data[:at]
        elif damage == "change" and at < len(data):
            data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
        elif damage == "repeat":
            data = data[:at] + data[at : at + 50] * dice.choice((2, 200)) + data[at + 50 :]
        else:
            data = data[:at] + dice.randbytes(dice.choice((1, 100))) + data[at:]
    return data


def _random_part(dice: random.Random) -> bytes:
    end = dice.choice(ENDS)
    line = f"{dice.choice(METHODS)} {dice.choice(TARGETS)} {dice.choice(VERSIONS)}"
    if dice.random() < 0.6:  # most are right up to here, or nothing behind is reached
        line = f"{dice.choice(('GET', 'POST'))} /echo HTTP/1.1"
    fields = dice.sample(FIELDS, dice.randrange(5))
    if dice.random() < 0.7:
        fields = ["Host: localhost", *(each for each in fields if "ost:" not in each)]
    return end.join([line, *fields, "", ""]).encode("latin-1") + dice.choice(BODIES)


def test_what_is_not_http_is_quoted_as_it_was_sent(serving: Serving) -> None:
    answer = serving.exchange(get("/echo", ": 1"))

    assert b"this is not HTTP: " in answer
    assert b"bytearray" not in answer and b"b'" not in answer
