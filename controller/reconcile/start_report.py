"""Says in the log once how a start has ended: which bridges were verified, and what was changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from controller.reconcile.periodic import START_S, TICK_S
from controller.reconcile.writers import Writers
from flows.model import Dpid

LATE_S = 60.0
"""A bridge that was not verified so long after the start is named, in seconds."""
NEVER_S = 3600.0
"""The pause of work that is done, in seconds."""
MISSING_NAMED_MAX = 10
"""Bridges that are named in one line."""

log = structlog.get_logger(__name__)


class StartReport:
    """Work of a loop: looks until every bridge with ports is verified, and says it once.

    ``expected`` returns the bridges on which ports of the inventory are, with their names.
    """

    def __init__(
        self,
        expected: Callable[[], dict[Dpid, str]],
        writers: Writers,
        ready: threading.Event,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expected, self._writers, self._ready, self._now = expected, writers, ready, now
        self._began = now()
        self._is_late = self._is_over = False

    def __call__(self) -> float:
        if self._is_over:
            return NEVER_S
        if not self._ready.is_set():
            return START_S
        expected = self._expected()
        if not expected:
            return TICK_S
        verified = {w.dpid: w for w in self._writers.find(expected) if w.confirmed.version}
        missing = sorted(name for dpid, name in expected.items() if dpid not in verified)
        if not missing:
            plans = sum(writer.plans for writer in verified.values())
            what = "nothing to change" if plans == 0 else "changed what had to be"
            self._is_over = True
            log.info("bridges verified", bridges=len(verified), plans=plans, summary=what)
            return NEVER_S
        if not self._is_late and self._now() - self._began > LATE_S:
            self._is_late = True
            log.warning(
                "bridges not verified yet", verified=len(verified), missing=len(missing),
                named=missing[:MISSING_NAMED_MAX], see="cloudtap bridge list",
            )  # fmt: skip
        return TICK_S
