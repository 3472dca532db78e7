"""Events that come close together are answered by one piece of work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

EACH_S = 0.002
"""How long the next piece of work is put off for each who asked for this one, in seconds."""
PAUSE_S = 0.05
"""How long at most, unless the work itself takes longer."""

log = structlog.get_logger(__name__)


class Folding:
    """Does ``work`` in a thread of its own after it was asked for: once for all who asked before.

    Who asks alone does not wait: a number that passes from one tenant's port to another's must be
    noticed at once. The more ask at the same time, the longer the next work is put off; at least as
    long as this one took, so that work that gets slower is done more seldom.
    """

    def __init__(self, work: Callable[[], None], name: str, pause_s: float = PAUSE_S) -> None:
        self._work, self._pause_s = work, pause_s
        self._told = threading.Condition()
        self._asked = self._done = 0
        self._is_stopped = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether all that was asked for is done."""
        return self._asked == self._done

    @property
    def waiting(self) -> int:
        """How many asked and were not answered yet."""
        return self._asked - self._done

    def ask(self) -> int:
        """Say that there is something to do; give the answer to ``wait``."""
        with self._told:
            self._asked += 1
            self._told.notify_all()
            return self._asked

    def wait(self, asked: int) -> None:
        """Return when work that began after this was asked for is done, or after ``stop``."""
        with self._told:
            self._told.wait_for(lambda: self._done >= asked or self._is_stopped)

    def stop(self) -> None:
        """Do no more; whoever waits goes on."""
        with self._told:
            self._is_stopped = True
            self._told.notify_all()
        self._stopping.set()

    def _run(self) -> None:
        while True:
            with self._told:
                self._told.wait_for(lambda: self._asked > self._done or self._is_stopped)
                asked, many = self._asked, self._asked - self._done
            if self._is_stopped:
                return
            began = time.monotonic()
            try:
                self._work()
            except Exception as problem:  # the edge of the thread: it must go on
                log.error("folded work failed", work=self._thread.name, exc_info=problem)
            took = time.monotonic() - began
            with self._told:
                self._done = asked
                self._told.notify_all()
            self._stopping.wait(max(took, min(self._pause_s, many * EACH_S)))
