"""The log: what other threads write to the same stream comes between its lines, never into one."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog

from controller.process.logs import configure_logs


class Writes(io.StringIO):
    """A stream that keeps what each write brought."""

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


def test_a_failure_with_its_traceback_is_one_write_and_one_object() -> None:
    with logged("json") as stream:
        try:
            raise ValueError("no such port")
        except ValueError:
            structlog.get_logger("test").exception("handler failed")

    [line] = stream.pieces
    assert "no such port" in json.loads(line)["exception"]
