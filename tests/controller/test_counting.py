"""Counters are read without letting anybody wait for a bridge that does not answer."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from controller.reconcile.report.counter_poller import AGAIN_MAX_S, AGAIN_S, PATIENCE_S, SINGLES_MAX, CountReader
from controller.southbound.errors import SwitchRefused, SwitchTimeout
from controller.status.values import Copies, Losses
from controller.reconcile.bridge.confirmed import Verified
from flows.plan.meters import Meter


class Writer:
    """What a reader of counters sees of a bridge; it answers when it is let go."""

    def __init__(self) -> None:
        self.dpid = 1
        self.switch = SimpleNamespace(name="s1", flow_copies=self._flow_copies)
        self.verified = Verified(version=1, served=frozenset({5, 6}))
        self.counters = SimpleNamespace(update=self._ignore, update_one=self._ignore)
        self.tally = SimpleNamespace(losses=lambda session: Losses())
        self.meters: dict[int, Meter | None] = {}
        self.may_answer = threading.Event()
        self.asked: list[int | None] = []
        self.problem: Exception | None = None

    def _flow_copies(self, table: int, session: int | None = None) -> dict[int, Copies]:
        self._answer(session)
        return {}

    def _ignore(self, *counted: object) -> None:
        """Nobody asks for them here."""

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


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_a_bridge_that_did_not_tell_is_asked_again_within_a_second() -> None:
    """A limit is reached meanwhile, and the session must stop within a second."""
    writer, clock = answering(), Clock()
    writer.problem = SwitchRefused("s1", "list its counters", "it is busy")
    reader = CountReader(clock)
    reader.read(writer, fresh_s=0.2)
    reader.read(writer, fresh_s=0.2)
    assert writer.asked == [None], "it is left in peace for a moment"
    writer.problem = None
    clock.time += AGAIN_S
    reader.read(writer, fresh_s=0.2)
    assert (writer.asked, AGAIN_S < 0.8) == ([None, None], True)


def test_a_bridge_that_never_tells_is_asked_ever_more_seldom_but_for_ever() -> None:
    writer, clock = answering(), Clock()
    writer.problem = SwitchTimeout("s1", "list its counters", 10)
    reader = CountReader(clock)
    asked_at = []
    for _ in range(300):
        before = len(writer.asked)
        reader.read(writer, fresh_s=0.1)
        if len(writer.asked) > before:
            asked_at.append(clock.time)
        clock.time += 0.125
    pauses = [later - earlier for earlier, later in pairwise(asked_at)]
    assert pauses[:4] == [AGAIN_S, 2 * AGAIN_S, 4 * AGAIN_S, AGAIN_MAX_S]
    assert set(pauses[3:]) == {AGAIN_MAX_S}
    writer.problem = None
    clock.time += AGAIN_MAX_S
    reader.read(writer)
    writer.problem = SwitchTimeout("s1", "list its counters", 10)
    clock.time += 2
    reader.read(writer)
    asked = len(writer.asked)
    clock.time += AGAIN_S
    reader.read(writer, fresh_s=0.1)
    assert len(writer.asked) == asked + 1, "an answer has made good for what was before"
