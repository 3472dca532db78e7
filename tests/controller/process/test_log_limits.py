"""The log stays readable whatever happens how often: counted, cut, and few tracebacks."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import structlog

from controller.process.log_limits import (
    EVENTS_MAX,
    LINES_PER_MINUTE,
    MINUTE_S,
    TRACEBACKS_PER_MINUTE,
    VALUE_MAX,
    LimitLines,
    LimitRecords,
    LogLimits,
)


class Log:
    """Limits with a clock that is set by hand, and what they tell."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[tuple[str, str, int]] = []
        self.limits = LogLimits(lambda *what: self.told.append(what), lambda: self.now)
        self.lines, self.records = LimitLines(self.limits), LimitRecords(self.limits)

    def line(self, **event: Any) -> dict[str, Any] | None:
        """What is logged of an event; None if nothing is."""
        try:
            return dict(self.lines(None, "warning", event))
        except structlog.DropEvent:
            return None


@pytest.fixture
def log() -> Log:
    return Log()


def error() -> Exception:
    try:
        raise ValueError("no such thing")
    except ValueError as raised:
        return raised


def test_so_many_lines_of_an_event_are_logged_and_the_others_are_counted(log: Log) -> None:
    shown = [log.line(event="switch cut off", switch=str(n)) for n in range(LINES_PER_MINUTE + 50)]
    assert sum(line is not None for line in shown) == LINES_PER_MINUTE
    assert log.line(event="bridge connected") is not None, "another event is not affected"
    log.limits.flush()
    assert log.told == [], "the minute is not over"
    log.now += MINUTE_S
    log.limits.flush()
    assert log.told == [("warning", "switch cut off", 50)]
    assert log.line(event="switch cut off") is not None
    log.now += MINUTE_S
    log.limits.flush()
    assert len(log.told) == 1, "nothing was left out since"


def test_a_flood_is_some_lines_a_minute_for_ever(log: Log) -> None:
    logged = 0
    for _ in range(10):
        logged += sum(log.line(event="flood") is not None for _ in range(5000))
        log.now += MINUTE_S
        log.limits.flush()
    assert logged == 10 * LINES_PER_MINUTE
    assert [lines for _, _, lines in log.told] == [5000 - LINES_PER_MINUTE] * 10


def test_long_values_are_cut(log: Log) -> None:
    line = log.line(event="refused", reason="x" * 100_000)
    assert line is not None
    assert len(line["reason"]) < VALUE_MAX + 100 and "98000 characters more" in line["reason"]


def test_only_some_lines_have_a_traceback(log: Log) -> None:
    lines = [log.line(event="handler failed", exc_info=error()) for _ in range(10)]
    with_traceback = [line for line in lines if line and "exc_info" in line]
    without = [line for line in lines if line and "exc_info" not in line]
    assert len(with_traceback) == TRACEBACKS_PER_MINUTE
    assert [line["error"] for line in without] == ["ValueError('no such thing')"] * 7


def record(text: str, *arguments: object, raised: Exception | None = None) -> logging.LogRecord:
    exc_info = None if raised is None else (type(raised), raised, raised.__traceback__)
    return logging.LogRecord("library", logging.ERROR, "x.py", 1, text, arguments, exc_info)


def test_lines_of_libraries_are_limited_by_their_constant_text(log: Log) -> None:
    """For example the hex dump of each message that one cannot decode."""
    dumped = [log.records.filter(record("cannot decode %s", "00 " * n)) for n in range(500)]
    assert sum(dumped) == LINES_PER_MINUTE
    long = record("dump: %s", "00 " * 60_000)
    assert log.records.filter(long) and len(long.getMessage()) < VALUE_MAX + 100


def test_tracebacks_of_libraries_are_limited_too(log: Log) -> None:
    shown = [record("uncaught", raised=error()) for _ in range(10)]
    assert all(map(log.records.filter, shown))
    assert sum(each.exc_info is not None for each in shown) == TRACEBACKS_PER_MINUTE
    assert shown[-1].getMessage() == "uncaught (ValueError('no such thing'))"


def test_events_that_are_never_the_same_take_no_memory(log: Log) -> None:
    for number in range(EVENTS_MAX * 3):
        log.line(event=f"event {number}")
    assert len(log.limits._windows) == EVENTS_MAX
