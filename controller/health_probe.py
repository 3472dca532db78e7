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

INTERVAL_S = 0.3
"""So long after an answer a target is asked again."""
TIMEOUT_S = 0.3
"""An answer that takes longer is none."""
FAILURES = 3
"""A target that fails so often in a row is down; one that answers once is up again."""
WORKERS_MAX = 16
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
    between half a second and two while there are few targets.
    """

    def __init__(
        self,
        changed: Callable[[], object],
        ask: Callable[[str], bool] = connects,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._changed, self._ask, self._interval_s = changed, ask, interval_s
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
            try:
                is_well = self._ask(target)
            except Exception as problem:  # the edge of the loop: others must be asked
                log.error("probe failed", target=target, exc_info=problem)
                is_well = False
            if self._note(target, is_well):
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

    def _note(self, target: str, is_well: bool) -> bool:
        """Take an answer; whether other keys are down than before."""
        with self._lock:
            if target not in self._targets.values():
                self._asked.discard(target)
                return False
            heapq.heappush(self._due, (time.monotonic() + self._interval_s, target))
            self._lock.notify()
            if is_well:
                del self._failures[target]
            else:
                self._failures[target] = min(self._failures[target] + 1, FAILURES)
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
