"""Counters are read without letting anybody wait for a bridge that does not answer."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

from controller.counting import PATIENCE_S, SINGLES_MAX, CountReader
from controller.southbound.errors import SwitchTimeout
from controller.verified import Verified


class Writer:
    """What a reader of counters sees of a bridge; it answers when it is let go."""

    def __init__(self) -> None:
        self.dpid, self.switch = 1, SimpleNamespace(name="s1")
        self.verified = Verified(version=1, served=frozenset({5, 6}))
        self.may_answer = threading.Event()
        self.asked: list[int | None] = []
        self.problem: Exception | None = None

    def count(self) -> None:
        self._answer(None)

    def count_one(self, session: int) -> None:
        self._answer(session)

    def _answer(self, what: int | None) -> None:
        self.asked.append(what)
        assert self.may_answer.wait(10), "the test never lets the bridge answer"
        if self.problem is not None:
            raise self.problem


def answering() -> Any:
    writer = Writer()
    writer.may_answer.set()
    return writer


def test_a_bridge_that_hangs_keeps_nobody_waiting() -> None:
    writer: Any = Writer()
    reader = CountReader()
    began = time.monotonic()
    for _ in range(3):
        reader.read(writer, 5)
    took = time.monotonic() - began
    writer.may_answer.set()

    assert writer.asked == [5], "it was asked again before it had answered"
    assert took < 3 * PATIENCE_S + 2


def test_a_session_that_is_not_on_the_bridge_asks_nothing() -> None:
    writer = answering()
    CountReader().read(writer, 7)

    assert writer.asked == []


def test_many_sessions_in_a_row_are_read_at_once_and_then_not_again() -> None:
    writer = answering()
    reader = CountReader()
    for number in range(2 * SINGLES_MAX):
        reader.read(writer, 5 + number % 2)

    assert writer.asked[:SINGLES_MAX] == [5, 6] * (SINGLES_MAX // 2)
    assert writer.asked[SINGLES_MAX:] == [None]


def test_a_bridge_that_does_not_tell_is_left_in_peace() -> None:
    writer = answering()
    writer.problem = SwitchTimeout("s1", "list its counters", 10)
    reader = CountReader()
    reader.read(writer)
    reader.read(writer)

    assert writer.asked == [None]
