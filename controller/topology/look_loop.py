"""A thread that looks at devices again and again, and at once when it is woken for a reason."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)


class LookLoop:
    """Calls ``look`` every ``every_s`` seconds, and when it is woken and ``is_outdated``.

    ``what`` names the thread, and what is not looked at if ``look`` fails.
    """

    def __init__(
        self,
        what: str,
        *,
        look: Callable[[], object],
        is_outdated: Callable[[], bool],
        every_s: float,
    ) -> None:
        self._what, self._look, self._is_outdated = what, look, is_outdated
        self._every_s = every_s
        self._woken, self._is_stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._is_stopped = True
        self._woken.set()

    def wake(self) -> None:
        """Look soon, if what was seen is outdated."""
        self._woken.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._is_stopped:
            self._woken.wait(max(0.0, due - time.monotonic()))
            self._woken.clear()
            try:
                if time.monotonic() >= due or self._is_outdated():
                    due = time.monotonic() + self._every_s
                    self._look()
            except Exception as problem:  # the edge of the loop: it must go on
                log.error(f"{self._what} not looked at", exc_info=problem)
