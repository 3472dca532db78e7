"""How the controller writes its log: constant events with keys, for people or for programs."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Literal

import structlog


def configure_logs(level: str, style: Literal["console", "json"]) -> None:
    """Send structured events to standard error from ``level`` on; colours only on a terminal.

    What libraries log takes the same form for programs; what ryu and os-ken say before the
    settings are read ("loading app ...") does not.
    """
    has_colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=has_colours,
                # the rich one would show the values of local variables, secrets among them
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    stamps: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*stamps, *last],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        # a line is one write: what other threads write to the same stream comes between lines
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    if style == "json":
        _format_others(stamps, last)


def _format_others(stamps: list[Any], last: list[Any]) -> None:
    """Have the library's log lines look like ours."""
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=stamps, processors=[strip, *last]
    )
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
