"""Coalesces requests for the same work: one run answers all requests made before it started."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

EACH_S = 0.002
"""Delay of the next run for each request that this run answered, in seconds."""
PAUSE_S = 0.05
"""Limit of that delay, in seconds, unless the work itself takes longer."""

log = structlog.get_logger(__name__)


class Coalescer:
    """Runs ``work`` in a thread of its own when requested: once for all requests made before.

    A single request runs at once: if an OpenFlow port number passes from one tenant's port to
    another's, that must be noticed without delay. The more requests a run answers, the longer the
    next run is delayed; at least as long as the run took, so slower work runs less often.
    """

    def __init__(self, work: Callable[[], None], name: str, pause_s: float = PAUSE_S) -> None:
        self._work, self._pause_s = work, pause_s
        self._condition = threading.Condition()
        self._requested = self._done = 0
        self._is_stopped = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether every request is answered."""
        return self._requested == self._done

    @property
    def waiting(self) -> int:
        """How many requests are not answered yet."""
        return self._requested - self._done

    def ask(self) -> int:
        """Request a run of the work; returns the request, for ``wait``."""
        with self._condition:
            self._requested += 1
            self._condition.notify_all()
            return self._requested

    def wait(self, request: int) -> None:
        """Wait until a run that started after this request has ended, or until ``stop``."""
        with self._condition:
            self._condition.wait_for(lambda: self._done >= request or self._is_stopped)

    def stop(self) -> None:
        """Run no more; ``wait`` returns."""
        with self._condition:
            self._is_stopped = True
            self._condition.notify_all()
        self._stopping.set()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._requested > self._done or self._is_stopped)
                requested, count = self._requested, self._requested - self._done
            if self._is_stopped:
                return
            began = time.monotonic()
            try:
                self._work()
            except Exception as problem:  # the edge of the thread: it must continue
                log.error("coalesced work failed", work=self._thread.name, exc_info=problem)
            took = time.monotonic() - began
            with self._condition:
                self._done = requested
                self._condition.notify_all()
            self._stopping.wait(max(took, min(self._pause_s, count * EACH_S)))
