"""The log of the controller: constant events with keys, as lines for people or JSON."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from io import StringIO
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog

from controller.process.log_limits import LimitLines, LimitRecords, LogLimits
from controller.process.text import visible, visible_lines

CHILD_LOG = "CLOUDTAP_CHILD_LOG"
"""Environment variable of a child process: level and style of the log of its parent."""
IN_COLOUR = "colours"
"""Stands behind them if the log ends on a terminal."""
LOST_LOOK_S = 2.0
"""How often it is looked whether lines were lost, in seconds."""
HIGHEST_LEVEL, LEVEL_STEP = logging.CRITICAL, 10
"""Levels of structlog; libraries may use others between them."""

LogStyle = Literal["console", "json"]

log = structlog.get_logger(__name__)
_chosen: dict[str, str] = {}


def configure_logs(level: str, style: LogStyle) -> None:
    """Write events of ``level`` and above to standard error; in colour only on a terminal.

    With style ``json`` the log lines of libraries have the same form, except those that ryu and
    os-ken write before the settings are read ("loading app ...").

    Lines of one event are limited, those of libraries too: what is left out is counted, and the
    number is logged a minute later ("more lines like this").
    """
    limits = LogLimits(_tell_left_out)
    for handler in logging.getLogger().handlers:
        for before in [f for f in handler.filters if isinstance(f, LimitRecords)]:
            handler.removeFilter(before)
        handler.addFilter(LimitRecords(limits))
    has_colours = _has_colours()
    _chosen[CHILD_LOG] = f"{level} {style}" + (f" {IN_COLOUR}" if has_colours else "")
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        else [
            _visible_event,
            structlog.dev.ConsoleRenderer(
                colors=has_colours,
                # the rich formatter would show the values of local variables, secrets among them
                exception_formatter=_visible_traceback,
            ),
        ]
    )
    stamps: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[LimitLines(limits), *stamps, *last],
        wrapper_class=_logger_that_never_fails(logging.getLevelNamesMapping()[level.upper()]),
        # a line is one write: writes of other threads to the same stream come between lines
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    if style == "json":
        _format_others(stamps, last)
    else:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_VisibleFormatter(handler.formatter))


def child_log_variables() -> Mapping[str, str]:
    """What the environment of a child must have for ``configure_child_logs``."""
    return dict(_chosen)


def configure_child_logs() -> None:
    """In a child process: log like its parent, whatever comes from libraries or ends the process.

    A child of a parent that has configured nothing logs as if for people.
    """
    level, style, *_ = os.environ.get(CHILD_LOG, "info console").split(" ")
    logging.basicConfig(level=level.upper(), handlers=[_ChildHandler()], force=True)
    # its warnings are about peers that have gone before all was written: a line for each write
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    configure_logs(level, "json" if style == "json" else "console")
    sys.excepthook = _log_crash
    threading.excepthook = lambda args: _log_crash(
        args.exc_type, args.exc_value, args.exc_traceback
    )


class LostLines:
    """Logs, each time it is called, how many lines were lost: once lines are written again."""

    def __init__(self, problem: Callable[[], str], lost: Callable[[], tuple[int, str]]) -> None:
        self._problem, self._lost, self._told = problem, lost, 0

    def __call__(self) -> float:
        """Log it if there is something new; returns when it is due again."""
        is_hindered = bool(self._problem())
        lines, reason = self._lost()
        if lines != self._told and not is_hindered:
            log.warning("log lines were lost", lines=lines - self._told, reason=reason)
            self._told = lines
        return LOST_LOOK_S


def _logger_that_never_fails(level: int) -> Any:
    """The class of loggers for this level; who logs goes on, whatever is wrong with the line."""
    plain: Any = structlog.make_filtering_bound_logger(level)

    class Logger(plain):  # type: ignore[misc]  # structlog makes the class while the process runs
        def _proxy_to_logger(self, method: str, event: Any = None, **keys: Any) -> Any:
            try:
                return super()._proxy_to_logger(method, event, **keys)
            except Exception as problem:  # the edge of the log
                with contextlib.suppress(Exception):
                    told = {"why": repr(problem), "keys": sorted(keys)}
                    super()._proxy_to_logger("error", "log line not made", like=str(event), **told)

    return Logger


def _has_colours() -> bool:
    """Whether people read it on a terminal; a child process knows that from its parent."""
    if os.environ.get("NO_COLOR"):
        return False
    return sys.stderr.isatty() or os.environ.get(CHILD_LOG, "").endswith(f" {IN_COLOUR}")


class _ChildHandler(logging.Handler):
    """Passes lines of libraries on as events: their form is that of ours, in every style."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        level = min(HIGHEST_LEVEL, record.levelno // LEVEL_STEP * LEVEL_STEP)
        log.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def _log_crash(
    kind: type[BaseException], error: BaseException | None, where: TracebackType | None
) -> None:
    """Log an exception that nobody has caught."""
    log.critical("process failed", exc_info=(kind, error, where))


class _VisibleFormatter(logging.Formatter):
    """Formats lines of libraries as another formatter does, with control characters shown."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        if isinstance(inner, _VisibleFormatter):
            inner = inner._inner
        self._inner: logging.Formatter = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """The lines of one record."""
        return visible_lines(self._inner.format(record))


def _visible_event(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """The event with control characters shown; the values are shown by their repr."""
    event["event"] = visible(str(event["event"]))
    return event


def _visible_traceback(stream: TextIO, exc_info: Any) -> None:
    """A traceback whose error may hold anything."""
    text = StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write(visible_lines(text.getvalue()))


def _tell_left_out(level: str, event: str, lines: int) -> None:
    """Log how many lines of an event were left out."""
    log.log(
        logging.getLevelNamesMapping().get(level.upper(), logging.WARNING),
        "more lines like this", like=event, lines=lines, minutes=1, is_summary=True,
    )  # fmt: skip


def _format_others(stamps: list[Any], last: list[Any]) -> None:
    """Format the log lines of libraries like ours."""
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=stamps, processors=[strip, *last]
    )
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
