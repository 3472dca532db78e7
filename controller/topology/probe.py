"""Asks again and again whether sensors receive: by connecting to addresses that people named."""

from __future__ import annotations

import heapq
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import structlog

INTERVAL_S = 0.2
"""So long after an answer a target is asked again."""
TIMEOUT_S = 0.2
"""An answer that takes longer is none. One that fails sooner is asked again at this time too, so
that a service which is restarted is not taken for dead."""
FAILURES = 3
"""A target that fails so often in a row is down; one that answers once is up again."""
LONGEST_S = INTERVAL_S + FAILURES * TIMEOUT_S
"""After so long a target is down that has swallowed everything since its last answer."""
WORKERS_MAX = 64
"""Targets that are asked at one time; more wait for their turn."""

K = TypeVar("K", bound=Hashable)

log = structlog.get_logger(__name__)


def connects(target: str, timeout_s: float = TIMEOUT_S) -> bool:
    """Whether somebody accepts a connection at a target such as ``tcp://192.0.2.9:22``."""
    parts = urlsplit(target)
    with suppress(OSError, EOFError):  # green sockets that were closed raise EOFError
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout_s).close()
        return True
    return False


class HealthProbe(Generic[K]):
    """Keeps ``down`` up to date: the keys whose targets do not answer.

    ``watch`` says what to ask, at any time and from any thread; it never waits. ``changed`` is
    called, from a thread of ours, when ``down`` has become another. A target is asked once however
    many keys have it, and counts as up until it has failed FAILURES times in a row, which takes
    LONGEST_S at most unless more than WORKERS_MAX targets are silent.
    """

    def __init__(
        self,
        changed: Callable[[], object],
        ask: Callable[[str], bool] = connects,
        interval_s: float = INTERVAL_S,
        retry_s: float = TIMEOUT_S,
    ) -> None:
        self._changed, self._ask = changed, ask
        self._interval_s, self._retry_s = interval_s, retry_s
        self._lock = threading.Condition()
        self._targets: Mapping[K, str] = {}
        self._failures: Counter[str] = Counter()
        self._due: list[tuple[float, str]] = []
        self._asked: set[str] = set()
        """Targets that are due, or are being asked."""
        self._workers = 0
        self._is_stopped = False
        self.down: frozenset[K] = frozenset()
        """The keys whose targets are down."""

    def watch(self, targets: Mapping[K, str]) -> None:
        """Ask these targets from now on, and no others; those that are known stay as they are."""
        if targets == self._targets:
            return
        with self._lock:
            self._targets = dict(targets)
            wanted = set(self._targets.values())
            for gone in self._failures.keys() - wanted:
                del self._failures[gone]
            for new in wanted - self._asked:
                self._asked.add(new)
                heapq.heappush(self._due, (time.monotonic(), new))
            self.down = self._are_down()
            while self._workers < min(WORKERS_MAX, len(wanted)) and not self._is_stopped:
                self._workers += 1
                threading.Thread(target=self._work, name="health probe", daemon=True).start()
            self._lock.notify_all()

    def stop(self) -> None:
        """Ask no more."""
        with self._lock:
            self._is_stopped = True
            self._lock.notify_all()

    def _work(self) -> None:
        while (target := self._next()) is not None:
            began = time.monotonic()
            try:
                is_well = self._ask(target)
            except Exception as problem:  # the edge of the loop: others must be asked
                log.error("probe failed", target=target, exc_info=problem)
                is_well = False
            if self._note(target, is_well, began):
                self._tell()

    def _next(self) -> str | None:
        """The next target, once it is due; None when there is nothing more to do."""
        with self._lock:
            while True:
                now = time.monotonic()
                if self._is_stopped or self._workers > max(1, len(self._asked)):
                    self._workers -= 1
                    return None
                if self._due and self._due[0][0] <= now:
                    return heapq.heappop(self._due)[1]
                self._lock.wait(self._due[0][0] - now if self._due else None)

    def _note(self, target: str, is_well: bool, began: float) -> bool:
        """Take an answer to a question of then; whether other keys are down than before."""
        with self._lock:
            if target not in self._targets.values():
                self._asked.discard(target)
                return False
            due = time.monotonic() + self._interval_s
            if is_well:
                del self._failures[target]
            else:
                self._failures[target] = min(self._failures[target] + 1, FAILURES)
                if self._failures[target] < FAILURES:
                    due = began + self._retry_s
            heapq.heappush(self._due, (due, target))
            self._lock.notify()
            before, self.down = self.down, self._are_down()
            return before != self.down

    def _are_down(self) -> frozenset[K]:
        failed = {target for target, count in self._failures.items() if count >= FAILURES}
        return frozenset(key for key, target in self._targets.items() if target in failed)

    def _tell(self) -> None:
        log.info("health of sensors changed", down=sorted(map(str, self.down)))
        try:
            self._changed()
        except Exception as problem:  # the edge of the loop: others must be asked
            log.error("listener to health of sensors failed", exc_info=problem)
