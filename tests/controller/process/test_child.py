"""A child process answers, is started again when it ends, and never outlives its parent."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.process import MESSAGE_LENGTHS, Message, MessageSocket, PeerGone
from tests.controller.process.echo_parent import MAX_BYTES
from tests.ovs.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
RUN = "from tests.controller.process.echo_parent import main; main()"
GREEN = f"import eventlet; eventlet.monkey_patch(); {RUN}"
DEADLINE_S = 60.0

HELLO = {"said": "hello", "length": MAX_BYTES}


class Parent:
    """The parent in a process of its own."""

    def __init__(self, code: str) -> None:
        self._words, there = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=ROOT, stdin=there, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        there.close()
        self._log = ""
        assert self.process.stdout is not None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        output = self.process.stdout
        self._reader = threading.Thread(
            target=lambda: [self._lines.put(line) for line in output], daemon=True
        )
        self._reader.start()

    def say(self, word: str) -> None:
        self._words.sendall(f"{word}\n".encode())

    def event(self) -> dict[str, Any]:
        return dict(json.loads(self._lines.get(timeout=DEADLINE_S)))

    def look(self) -> dict[str, Any]:
        self.say("look")
        return self.event()

    def end(self) -> str:
        """End it; what it has logged."""
        self.process.kill()
        self.process.wait()
        self._reader.join(DEADLINE_S)
        self._words.close()
        assert self.process.stderr is not None
        self._log += self.process.stderr.read().decode()
        return self._log


@pytest.fixture(params=[RUN, GREEN], ids=["native", "green"])
def parent(request: pytest.FixtureRequest) -> Iterator[Parent]:
    started = Parent(request.param)
    yield started
    started.end()


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_child_answers_and_ends_with_stop(parent: Parent) -> None:
    assert parent.event() == HELLO
    seen = parent.look()
    assert seen["problem"] is None and is_running(seen["pid"])

    parent.say("stop")

    assert parent.event() == {"stopped": True, "pid": None}
    assert parent.process.wait(DEADLINE_S) == 0
    assert not is_running(seen["pid"])
    assert parent.end() == ""


def test_a_killed_child_is_started_again_and_that_is_said_once(parent: Parent) -> None:
    for _ in range(2):
        assert parent.event() == HELLO
        os.kill(parent.look()["pid"], signal.SIGKILL)
    assert parent.event() == HELLO

    seen = parent.look()

    assert seen["problem"] == (
        "the echo was killed by SIGKILL, and has been started again: see the log"
    )
    assert parent.end().count("child process ended") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_of_a_terminal_or_a_service_manager_leave_the_child_to_its_parent(
    parent: Parent, number: signal.Signals
) -> None:
    assert parent.event() == HELLO
    pid = parent.look()["pid"]

    os.kill(pid, number)
    parent.say("again")

    assert parent.event() == {"again": True, "length": 0}
    assert parent.look()["pid"] == pid


@pytest.mark.parametrize("word", ["wait", "spin"])
def test_a_child_ends_with_a_killed_parent_even_while_it_computes(
    parent: Parent, word: str
) -> None:
    assert parent.event() == HELLO
    pid = parent.look()["pid"]
    parent.say(word)
    assert parent.event() == {word: True, "length": 0}

    parent.end()

    wait_for(lambda: is_running(pid), lambda running: not running, DEADLINE_S)


ORPHAN = """
import socket, sys, threading
from controller.process import child
child._exit_with_parent = lambda descriptor: None  # it comes too late
child.connect_to_parent()
{error}
"""
ERRORS = {
    "an error": "raise RuntimeError('its parent has gone')",
    "a traceback": "import traceback\ntry: 1 / 0\nexcept ZeroDivisionError: traceback.print_exc()",
    "a line of the log": "import logging; logging.error('its parent has gone')",
    "an error of a thread": "t = threading.Timer(0, lambda: 1 / 0); t.start(); t.join()",
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("is_orphan", [True, False])
def test_a_child_whose_parent_has_gone_prints_nothing(error: str, is_orphan: bool) -> None:
    here, there = socket.socketpair()
    if is_orphan:
        here.close()
    code = ORPHAN.format(error=ERRORS[error]) + "\nimport os; os._exit(3)"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(there.fileno())],
        cwd=ROOT, pass_fds=[there.fileno()], stderr=subprocess.PIPE, timeout=DEADLINE_S,
    )  # fmt: skip
    here.close()
    there.close()
    if is_orphan:
        assert (ended.stderr, ended.returncode) == (b"", 0)
    else:
        assert ended.stderr


def test_a_computing_child_ends_with_stop(parent: Parent) -> None:
    assert parent.event() == HELLO
    pid = parent.look()["pid"]
    parent.say("spin")
    assert parent.event() == {"spin": True, "length": 0}

    parent.say("stop")

    assert parent.event() == {"stopped": True, "pid": None}
    assert not is_running(pid)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, MessageSocket]]:
    """A raw end, and one that takes messages of 100 bytes."""
    raw, other = socket.socketpair()
    with raw, other:
        yield raw, MessageSocket(other, 100)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (MESSAGE_LENGTHS.pack(101, 0), r"101 \+ 0 bytes, more than 100"),
        (MESSAGE_LENGTHS.pack(2, 0xFFFFFFFF), "more than 100"),
        (MESSAGE_LENGTHS.pack(2, 5) + b"{}abc", "inside a message"),
        (MESSAGE_LENGTHS.pack(2, 0)[:5], "inside a message"),
        (MESSAGE_LENGTHS.pack(2, 0) + b"{[", "not JSON"),
        (MESSAGE_LENGTHS.pack(2, 0) + b"\xff\xff", "not JSON"),
        (MESSAGE_LENGTHS.pack(100, 0) + b"[" * 100, "not JSON"),
        (MESSAGE_LENGTHS.pack(2, 0) + b"[]", "not a JSON object"),
    ],
)
def test_what_is_no_message_is_refused(
    ends: tuple[socket.socket, MessageSocket], sent: bytes, words: str
) -> None:
    raw, messages = ends
    raw.sendall(sent)
    raw.shutdown(socket.SHUT_WR)

    with pytest.raises(PeerGone, match=words):
        messages.receive()


def test_a_message_that_is_too_long_is_not_sent(
    ends: tuple[socket.socket, MessageSocket],
) -> None:
    raw, messages = ends

    with pytest.raises(ValueError, match="too long"):
        messages.send(Message({}, bytes(101)))
    messages.send(Message({"a": 1}, b"b"))

    assert raw.recv(1000) == MESSAGE_LENGTHS.pack(7, 1) + b'{"a":1}b'


def test_a_closed_connection_has_no_more_messages(
    ends: tuple[socket.socket, MessageSocket],
) -> None:
    raw, messages = ends
    raw.close()

    assert messages.receive() is None
    with pytest.raises(PeerGone):
        messages.send(Message({}, bytes(100)))
        messages.send(Message({}, bytes(100)))
    messages.close()
    messages.close()
