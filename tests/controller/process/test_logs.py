"""Each line of the log is one write, so no other thread can write into a line."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import structlog

from controller.process import LostLines, configure_logs
from controller.process.log_limits import LINES_PER_MINUTE
from controller.process.logs import child_log_variables

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 60.0


class Writes(io.StringIO):
    """A stream that keeps the text of each write."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


@contextlib.contextmanager
def logged(style: Literal["console", "json"]) -> Iterator[Writes]:
    """Standard error while the log goes there."""
    with contextlib.redirect_stderr(Writes()) as writes:
        configure_logs("info", style)
        yield writes
    structlog.reset_defaults()


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_line_is_one_write(style: Literal["console", "json"]) -> None:
    with logged(style) as stream:
        log = structlog.get_logger("test")
        log.info("bridge connected", bridge="s1")
        log.warning("flows had drifted", bridge="s1")
        log.debug("not asked for")

    assert len(stream.pieces) == 2
    assert all(piece.count("\n") == 1 and piece.endswith("\n") for piece in stream.pieces)


EVIL = "s1\x1b]0;owned\x07\n2026-01-01 [info] forged \u202e"


def test_escape_sequences_and_line_ends_of_others_are_shown_in_lines_for_people() -> None:
    with logged("console") as stream:
        log = structlog.get_logger("test")
        log.info("bridge connected", bridge=EVIL, names=[EVIL])
        try:
            raise ValueError(EVIL)
        except ValueError:
            log.exception("handler failed")
        handler = logging.StreamHandler(stream)
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            configure_logs("info", "console")
            root.warning("from a library: %s", EVIL)
        finally:
            root.removeHandler(handler)
    written = "".join(stream.pieces)
    assert "\x1b" not in written and "\u202e" not in written and "\x07" not in written
    assert "bridge=s1\\x1b]0;owned\\x07\\n2026-01-01" in written.replace("'", "")
    assert stream.pieces[0].count("\n") == 1
    assert "from a library: s1\\x1b" in written


def test_a_failure_with_its_traceback_is_one_write_and_one_object() -> None:
    with logged("json") as stream:
        try:
            raise ValueError("no such port")
        except ValueError:
            structlog.get_logger("test").exception("handler failed")

    [line] = stream.pieces
    assert "no such port" in json.loads(line)["exception"]


CHILD = """
import asyncio, logging, socket, sys, threading, warnings
from controller.process import connect_to_parent
connect_to_parent()
logging.getLogger("asyncio").warning("socket.send() raised exception.")
for number in range(1000):
    logging.getLogger("library").warning("number %d of many", number)
warnings.warn("this is old")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise ValueError("nobody catches it")
"""


def log_of_a_child(style: str) -> list[str]:
    """The lines of a child process that libraries, warnings and errors write to."""
    here, there = socket.socketpair()
    with here, there:
        ended = subprocess.run(
            [sys.executable, "-c", CHILD, str(there.fileno())], cwd=ROOT, text=True,
            env={**os.environ, "CLOUDTAP_CHILD_LOG": f"info {style}"},
            pass_fds=[there.fileno()], stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    return ended.stderr.splitlines()


def test_each_line_of_a_child_process_is_one_of_the_log_of_its_parent_whoever_writes_it() -> None:
    seen = [json.loads(line) for line in log_of_a_child("json")]

    assert all({"event", "level", "timestamp"} <= entry.keys() for entry in seen)
    numbers = [entry for entry in seen if entry.get("logger") == "library"]
    assert len(numbers) == LINES_PER_MINUTE
    failures = [entry["exception"] for entry in seen if entry["event"] == "process failed"]
    assert ["ZeroDivisionError" in failures[0], "nobody catches" in failures[1]] == [True, True]
    assert any("this is old" in entry["event"] for entry in seen)
    assert not any("raised exception" in entry["event"] for entry in seen)


def test_a_child_process_logs_for_people_like_its_parent() -> None:
    lines = log_of_a_child("console")

    assert sum("[warning  ] number" in line for line in lines) == LINES_PER_MINUTE
    assert not any("raised exception" in line for line in lines)


def test_a_child_process_is_told_the_log_of_its_parent() -> None:
    with logged("json"):
        configure_logs("debug", "json")
        assert child_log_variables() == {"CLOUDTAP_CHILD_LOG": "debug json"}


class Unshowable:
    """A value whose repr fails."""

    def __repr__(self) -> str:
        raise ValueError("cannot be shown")


class FailingStream(Writes):
    """A stream that takes nothing."""

    def write(self, text: str) -> int:
        raise OSError("no space left")


@pytest.mark.parametrize("style", ["console", "json"])
def test_who_logs_what_cannot_be_shown_goes_on(style: Literal["console", "json"]) -> None:
    with logged(style) as stream:
        log = structlog.get_logger("test")
        log.info("plan applied", bridge=Unshowable())
        log.info("plan applied", bridge="s1")

    assert "log line not made" in stream.pieces[0] and "plan applied" in stream.pieces[0]
    assert "cannot be shown" in stream.pieces[0]
    assert "s1" in stream.pieces[1] and len(stream.pieces) == 2


def test_who_logs_to_a_stream_that_fails_goes_on() -> None:
    with contextlib.redirect_stderr(FailingStream()):
        configure_logs("info", "console")
        structlog.get_logger("test").warning("flows had drifted", bridge="s1")
    structlog.reset_defaults()


def test_how_many_lines_were_lost_is_logged_once_lines_are_written_again() -> None:
    problem, lost = "nobody reads it", (0, "")
    with logged("json") as stream:
        tell = LostLines(lambda: problem, lambda: lost)
        tell()
        lost = (7, "the disk is full")
        tell()
        assert not stream.pieces
        problem = ""
        tell()
        tell()
        lost = (9, "nobody reads it any more")
        tell()

    seen = [json.loads(piece) for piece in stream.pieces]
    assert [(e["event"], e["lines"], e["reason"]) for e in seen] == [
        ("log lines were lost", 7, "the disk is full"),
        ("log lines were lost", 2, "nobody reads it any more"),
    ]
