"""Each line of the log is one write, so no other thread can write into a line."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from controller.process import configure_logs


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
