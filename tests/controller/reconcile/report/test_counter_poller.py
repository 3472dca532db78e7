"""Counters are read without letting anybody wait for a bridge that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from controller.reconcile.bridge import AppliedPlan, Confirmed
from controller.reconcile.report import CounterPoller
from controller.reconcile.report.counter_poller import (
    COUNT_RETRY_MAX_S,
    COUNT_RETRY_S,
    DROPPED_MAX,
    PATIENCE_S,
    SINGLES_MAX,
)
from controller.southbound import SwitchRefused, SwitchTimeout
from controller.status import SessionCounters, SessionCountersByBridge
from flows.openflow import MeterCount, PacketCount
from flows.plan import Meter, count_meter, counts_made, dropped_meter
from tests.ovs.waiting import wait_for


class Writer:
    """What a reader of counters sees of a bridge; it answers when it is let go."""

    def __init__(self) -> None:
        self.dpid = 1
        self.is_verified = True
        self.switch = SimpleNamespace(name="s1", metered=self._metered, has_meters=True)
        self.confirmed = Confirmed(version=1, served=frozenset({5, 6}))
        self.session_counters = SessionCounters()
        self.settled = AppliedPlan(1)
        made = [count_meter(session, is_tagged=False) for session in (5, 6)]
        self.meters: dict[int, Meter | None] | None = {meter.number: meter for meter in made}
        self.may_answer = threading.Event()
        self.asked: list[int | None] = []
        self.answered: list[int | None] = []
        self.problem: Exception | None = None

    def _metered(self, numbers: list[int] | None = None) -> dict[int, MeterCount]:
        made = [counts_made(number) for number in numbers or ()]
        self._answer(next((counted[0] for counted in made if counted is not None), None))
        return {}

    def _answer(self, what: int | None) -> None:
        self.asked.append(what)
        assert self.may_answer.wait(60), "the test never lets the bridge answer"
        self.answered.append(what)
        if self.problem is not None:
            raise self.problem


def answering() -> Any:
    writer = Writer()
    writer.may_answer.set()
    return writer


def poller(now: Callable[[], float] = time.monotonic) -> CounterPoller:
    return CounterPoller(SessionCountersByBridge(), lambda: (), now)


def test_a_bridge_that_hangs_keeps_nobody_waiting() -> None:
    def read_three_times() -> float:
        writer: Any = Writer()
        reader = poller()
        began = time.monotonic()
        for _ in range(3):
            reader.read(writer, 5)
        took = time.monotonic() - began
        assert writer.asked == [5], "it was asked again before it had answered"
        assert not writer.answered, "somebody has waited for the answer"
        writer.may_answer.set()
        return took

    # a busy machine may be slow at first
    wait_for(read_three_times, lambda took: took < 3 * PATIENCE_S + 2)


def test_a_thread_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    writer, reader = answering(), poller()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        reader.read(writer, 5)
    reader.read(writer, 5, patience_s=60)
    assert writer.answered == [5]


def test_a_session_that_is_not_on_the_bridge_asks_nothing() -> None:
    writer = answering()
    poller().read(writer, 7)

    assert writer.asked == []


def test_a_session_is_asked_for_while_a_plan_is_sent_and_meters_are_not_known() -> None:
    writer = answering()
    writer.meters = None
    poller().read(writer, 7)

    assert len(writer.asked) == 1, "the meters of a session that ends may be there"


def test_a_bridge_that_was_not_verified_is_asked_nothing() -> None:
    writer = answering()
    writer.is_verified = False
    reader = poller()
    reader.read(writer)
    assert writer.asked == []

    writer.is_verified = True
    reader.read(writer)
    assert writer.asked == [None]


def test_many_sessions_in_a_row_are_read_at_once_and_then_not_again() -> None:
    writer = answering()
    reader = poller()
    for number in range(2 * SINGLES_MAX):
        reader.read(writer, 5 + number % 2)

    assert writer.asked[:SINGLES_MAX] == [5, 6] * (SINGLES_MAX // 2)
    assert writer.asked[SINGLES_MAX:] == [None]


def test_counters_from_before_the_last_change_are_not_fresh() -> None:
    """What was read while the datapath still made copies is not the final count."""
    writer = answering()
    reader = poller(Clock())
    reader.read(writer)
    reader.read(writer)
    assert writer.asked == [None]
    writer.settled = AppliedPlan(2)
    reader.read(writer)
    assert writer.asked == [None, None]


@pytest.mark.parametrize("session", [None, 5])
def test_what_was_dropped_because_meters_changed_meanwhile_is_read_again(
    session: int | None,
) -> None:
    writer = answering()
    answer = writer.switch.metered

    def answer_while_meters_change(numbers: list[int] | None = None) -> dict[int, MeterCount]:
        if len(writer.asked) < 2:
            with writer.session_counters.resetting([], [], {}):
                return answer(numbers)  # type: ignore[no-any-return]
        return {writer.made: MeterCount(PacketCount(7, 700), PacketCount())}

    writer.switch.metered = answer_while_meters_change
    writer.made = count_meter(5, is_tagged=False).number
    poller().read(writer, session, patience_s=60)
    assert (len(writer.asked), writer.session_counters.made(5)) == (2, PacketCount(7, 700))


def test_meters_that_never_stop_changing_leave_what_is_known_outdated() -> None:
    writer, reader = answering(), poller(Clock())
    answer = writer.switch.metered

    def answer_while_meters_change(numbers: list[int] | None = None) -> dict[int, MeterCount]:
        with writer.session_counters.resetting([], [], {}):
            return answer(numbers)  # type: ignore[no-any-return]

    writer.switch.metered = answer_while_meters_change
    reader.read(writer, patience_s=60)
    assert len(writer.asked) == DROPPED_MAX
    writer.switch.metered = answer
    reader.read(writer, patience_s=60)
    assert len(writer.asked) == DROPPED_MAX + 1


def test_a_bridge_that_makes_no_copies_any_more_tells_what_it_has_made() -> None:
    writer = answering()
    writer.confirmed = Confirmed(version=2)
    poller().read(writer, 5)
    assert writer.asked == [5]


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
    reader = poller(clock)
    reader.read(writer, fresh_s=0.2)
    reader.read(writer, fresh_s=0.2)
    assert writer.asked == [None], "it is left in peace for a moment"
    writer.problem = None
    clock.time += COUNT_RETRY_S
    reader.read(writer, fresh_s=0.2)
    assert (writer.asked, COUNT_RETRY_S < 0.8) == ([None, None], True)


def test_a_bridge_that_never_tells_is_asked_ever_more_seldom_but_for_ever() -> None:
    writer, clock = answering(), Clock()
    writer.problem = SwitchTimeout("s1", "list its counters", 10)
    reader = poller(clock)
    asked_at = []
    for _ in range(300):
        before = len(writer.asked)
        reader.read(writer, fresh_s=0.1)
        if len(writer.asked) > before:
            asked_at.append(clock.time)
        clock.time += 0.125
    pauses = [later - earlier for earlier, later in pairwise(asked_at)]
    assert pauses[:4] == [COUNT_RETRY_S, 2 * COUNT_RETRY_S, 4 * COUNT_RETRY_S, COUNT_RETRY_MAX_S]
    assert set(pauses[3:]) == {COUNT_RETRY_MAX_S}
    writer.problem = None
    clock.time += COUNT_RETRY_MAX_S
    reader.read(writer)
    writer.problem = SwitchTimeout("s1", "list its counters", 10)
    clock.time += 2
    reader.read(writer)
    asked = len(writer.asked)
    clock.time += COUNT_RETRY_S
    reader.read(writer, fresh_s=0.1)
    assert len(writer.asked) == asked + 1, "an answer has made good for what was before"


@pytest.mark.parametrize("session", [None, 5])
def test_what_a_bridge_had_to_drop_is_read_once_the_bridge_that_made_it_was_told(
    session: int | None,
) -> None:
    """At once: a count that is told a second too late would be the last one of a session."""
    untold = {5, 6}
    dropped, made = dropped_meter(5).number, count_meter(5, is_tagged=False).number
    counts = {dropped: PacketCount(3, 312), made: PacketCount(2, 200)}
    writer: Any = Writer()
    writer.meters = dict.fromkeys(counts)
    writer.switch.metered = lambda numbers=None: {n: MeterCount(c) for n, c in counts.items()}
    reader = CounterPoller(SessionCountersByBridge(), lambda: (), untold=lambda: frozenset(untold))
    counters = writer.session_counters
    reader.read(writer, session, patience_s=60)
    assert (counters.made(5).packets, counters.dropped(5).packets) == (2, 0)
    untold.remove(5)
    reader.read(writer, session, patience_s=60)
    assert counters.dropped(5) == PacketCount(3, 300), "without the link tag"
    untold.add(5)
    counts[dropped] = PacketCount(9, 936)
    reader.read(writer, session, fresh_s=0, patience_s=60)
    assert counters.dropped(5).packets == 3, "a bridge that is away has made more of them"
