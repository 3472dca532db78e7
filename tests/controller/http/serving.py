"""An HTTP server in a process of its own, on native or green threads, over a small application.

`/echo` answers what it got. `/slow` answers once `/release` was asked for. `/brief` says
that it has begun, and takes BRIEF_S. `/large` answers many
bytes. The process prints one line of JSON for its start, and one for each line that it is sent,
which is `look`, or the digest of a new token.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from controller.http import FrontSettings, HttpServer, token_digest
from controller.process import configure_logs
from tests.ovs.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
RUN = "from tests.controller.http.serving import main; main()"
CODE = {"native": RUN, "green": f"import eventlet; eventlet.monkey_patch(); {RUN}"}
DEADLINE_S = 60.0
LARGE = 8 << 20

BRIEF_S = 0.5

_released = threading.Event()


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application that is served."""
    path, body = environ["PATH_INFO"], environ["wsgi.input"].read()
    answer = b""
    if path == "/slow":
        _released.wait()
    elif path == "/brief":
        os.write(1, b'"begun"\n')
        threading.Event().wait(BRIEF_S)
    elif path == "/release":
        _released.set()
    elif path == "/large":
        answer = bytes(LARGE)
    elif path == "/broken":
        raise RuntimeError("as the test wants")
    else:
        text = {key: value for key, value in environ.items() if isinstance(value, str)}
        answer = json.dumps({"environ": text, "length": len(body)}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", headers)
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer]


def main() -> None:
    """Serve until the socket that is standard input ends."""
    configure_logs("info", "console")
    words = socket.socket(fileno=0).makefile()  # green threads run while it waits
    given = json.loads(words.readline())
    where = given.pop("host"), given.pop("port")
    server = HttpServer(application, *where, FrontSettings.from_json(given))
    server.start()
    for word in words:
        if word.strip() != "look":
            server.use_token(word.strip())
        problems = server.problems()
        seen = {"address": server.address, "front": server.front_pid, "problems": problems}
        os.write(1, json.dumps(seen).encode() + b"\n")
    server.stop()


class Serving:
    """That process; ``settings`` are those of the front."""

    def __init__(self, hub: str, settings: FrontSettings, host: str = "127.0.0.1") -> None:
        self.is_tls = settings.tls is not None
        self._words, there = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CODE[hub]],
            cwd=ROOT, stdin=there, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        there.close()
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._log: list[bytes] = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._lines.put)),
            threading.Thread(target=self._read, args=(self.process.stderr, self._log.append)),
        ]
        for reader in self._readers:
            reader.start()
        self._say(json.dumps({**settings.to_json(), "host": host, "port": 0}))
        seen = wait_for(self.look, lambda found: found["front"] is not None, DEADLINE_S)
        self.address: tuple[str, int] = tuple(seen["address"])  # type: ignore[assignment]

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.kill()
        if what is not None:
            print(f"--- log of the server ---\n{self.log()}")

    def look(self) -> dict[str, Any]:
        """Address, process id of the front, and problems."""
        self._say("look")
        return dict(json.loads(self._lines.get(timeout=DEADLINE_S)))

    def use_token(self, token: str) -> None:
        """Have it ask for this token from now on."""
        self._say(token_digest(token))
        self._lines.get(timeout=DEADLINE_S)

    def wait_for_word(self, word: str) -> None:
        """Wait until the application says this word."""
        assert json.loads(self._lines.get(timeout=DEADLINE_S)) == word

    def log(self) -> str:
        """What was logged so far."""
        return b"".join(self._log).decode()

    def stop(self) -> int:
        """End it in order; its exit status."""
        self._words.shutdown(socket.SHUT_RDWR)
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(DEADLINE_S)
        self._words.close()

    def memory(self) -> tuple[int, int]:
        """Bytes of memory of the server and of its front."""
        pids = (self.process.pid, self.look()["front"])
        server, front = (int(_field(pid, "VmRSS").split()[0]) << 10 for pid in pids)
        return server, front

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """A connection; whoever reads from it waits DEADLINE_S at most."""
        return socket.create_connection(self.address, DEADLINE_S, (source, 0))

    def exchange(self, request: bytes, source: str = "127.0.0.1") -> bytes:
        """What the server answers to these bytes until it closes; a reset is an end, too."""
        with self.connect(source) as connection:
            return talk(connection, request)

    def status(self, request: bytes, source: str = "127.0.0.1") -> int:
        """The status of the first answer to these bytes; 0 if there is none."""
        return status_of(self.exchange(request, source))

    def _say(self, line: str) -> None:
        self._words.sendall(line.encode() + b"\n")

    def _read(self, stream: Any, put: Any) -> None:
        for line in stream:
            put(line)


def talk(connection: socket.socket, request: bytes) -> bytes:
    """Send, and receive until the end."""
    answer = b""
    try:
        if request:
            connection.sendall(request)
        while part := connection.recv(1 << 16):
            answer += part
    except (ConnectionResetError, BrokenPipeError):
        pass
    return answer


def status_of(answer: bytes) -> int:
    """The status of an answer; 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def get(path: str, *fields: str) -> bytes:
    """A GET request that ends the connection."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def _field(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise AssertionError(f"process {pid} has no {name}")
