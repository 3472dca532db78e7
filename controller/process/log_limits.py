"""Limits of what is logged: so many lines of one event a minute, short values, few tracebacks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog

LINES_PER_MINUTE = 100
"""Lines of one event that are logged in a minute; of the others only the number."""
TRACEBACKS_PER_MINUTE = 3
"""Tracebacks of one event that are logged in a minute; other lines have the exception alone."""
MINUTE_S, FLUSH_S = 60.0, 5.0
"""The time in which lines are counted, and how often it is checked for its end, in seconds."""
VALUE_MAX = 2000
"""Characters of one value, at most."""
EVENTS_MAX = 1000
"""Events that are counted at one time: an event is a constant, but those of libraries may vary."""

EventDict = MutableMapping[str, Any]


@dataclass
class _Window:
    """How often one event was logged since the minute began."""

    began: float
    level: str
    lines: int = 0
    tracebacks: int = 0

    @property
    def dropped(self) -> int:
        return max(0, self.lines - LINES_PER_MINUTE)


class LogLimits:
    """Counts lines by event; any thread may call it.

    It takes no lock: whoever logs may be in the middle of anything, and a count that is off by one
    does no harm. ``tell`` logs how many lines were left out: it gets the level, the event and the
    number. It is called when the minute is over, by a thread of its own.
    """

    def __init__(
        self,
        tell: Callable[[str, str, int], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._now = tell, now
        self._windows: dict[str, _Window] = {}
        self._thread: threading.Thread | None = None

    def is_allowed(self, event: str, level: str) -> bool:
        """Count a line of an event; False if it must not be logged."""
        window = self._window(event, level)
        window.lines += 1
        if window.dropped and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        return not window.dropped

    def may_have_traceback(self, event: str, level: str) -> bool:
        """Count a traceback of an event; False if the line must do without."""
        window = self._window(event, level)
        window.tracebacks += 1
        return window.tracebacks <= TRACEBACKS_PER_MINUTE

    def flush(self) -> None:
        """Tell what was left out in minutes that are over."""
        before = self._now() - MINUTE_S
        for event, window in list(self._windows.items()):
            if window.began <= before:
                self._windows.pop(event, None)
                if window.dropped:
                    self._tell(window.level, event, window.dropped)

    def _window(self, event: str, level: str) -> _Window:
        window = self._windows.get(event)
        if window is None or (not window.dropped and self._now() - window.began >= MINUTE_S):
            if len(self._windows) >= EVENTS_MAX:
                self._windows.pop(next(iter(self._windows)), None)
            window = self._windows[event] = _Window(self._now(), level)
        return window

    def _run(self) -> None:
        while True:
            time.sleep(FLUSH_S)
            self.flush()


class LimitLines:
    """A processor of structlog that applies the limits to the controller's own events."""

    def __init__(self, limits: LogLimits) -> None:
        self._limits = limits

    def __call__(self, logger: Any, method: str, event: EventDict) -> EventDict:
        name = str(event.get("event"))
        if not event.pop("is_summary", False) and not self._limits.is_allowed(name, method):
            raise structlog.DropEvent
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = shorten(value)
        error = event.get("exc_info")
        if error and not self._limits.may_have_traceback(name, method):
            del event["exc_info"]
            event["error"] = shorten(_show(error))
        return event


class LimitRecords(logging.Filter):
    """The same for the log records of libraries, by the constant text of each."""

    def __init__(self, limits: LogLimits) -> None:
        super().__init__()
        self._limits = limits

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged; what is left is shortened."""
        event, level = f"{record.name}: {str(record.msg)[:100]}", record.levelname.lower()
        if not self._limits.is_allowed(event, level):
            return False
        text = record.getMessage()
        if len(text) > VALUE_MAX:
            record.msg, record.args = shorten(text), ()
        if record.exc_info and not self._limits.may_have_traceback(event, level):
            record.msg, record.args = f"{record.getMessage()} ({_show(record.exc_info)})", ()
            record.exc_info = record.exc_text = None
        return True


def shorten(text: str) -> str:
    """A text with VALUE_MAX characters at most, and how many are left out."""
    if len(text) <= VALUE_MAX:
        return text
    return f"{text[:VALUE_MAX]}... ({len(text) - VALUE_MAX} characters more)"


def _show(error: Any) -> str:
    """An exception, or what ``exc_info`` holds of one, in a line."""
    if isinstance(error, tuple):
        error = error[1]
    return repr(error) if isinstance(error, BaseException) else "an exception"
