"""How the controller writes its log: constant events with keys, for people or for programs."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Literal

import structlog


def configure_logs(level: str, style: Literal["console", "json"]) -> None:
    """Send structured events to standard error from ``level`` on; colours only on a terminal."""
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
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
