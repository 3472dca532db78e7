"""Health probes of sensors: connects periodically to the probe address of each (TCP)."""

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
"""Time from an answer of a target to its next probe, in seconds."""
PROBE_TIMEOUT_S = 0.2
"""Timeout of a probe, in seconds. A probe that fails sooner is repeated after this time too, so
that a service that restarts does not count as down."""
FAILURES = 3
"""A target is down after so many failures in a row, and up again after one answer."""
LONGEST_S = INTERVAL_S + FAILURES * PROBE_TIMEOUT_S
"""The longest time from the last answer of a target until it counts as down, in seconds, while its
address has at most two targets."""
ADDRESS_PAUSE_S = 0.1
"""The least time between two probes of one address, whatever their ports, in seconds: an address
with more targets has each probed less often."""
TOTAL_PAUSE_S = 0.005
"""The least time between any two probes, in seconds: at most 200 begin in a second."""
WORKERS_MAX = 64
"""Targets that are probed at the same time, at most; others wait."""

K = TypeVar("K", bound=Hashable)

log = structlog.get_logger(__name__)


def connects(target: str, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether a target such as ``tcp://192.0.2.9:22`` accepts a connection."""
    parts = urlsplit(target)
    with suppress(OSError, EOFError):  # green sockets that were closed raise EOFError
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout_s).close()
        return True
    return False


def _address_of(target: str) -> str:
    return urlsplit(target).hostname or ""


class HealthProbe(Generic[K]):
    """Probes targets periodically; ``down`` has the keys of those that do not answer.

    ``watch`` sets the targets, from any thread, and never blocks. ``changed`` is called in a thread
    of this probe when ``down`` has changed. A target is probed once however many keys have it. It
    counts as up until it has failed FAILURES times in a row, which takes LONGEST_S at most unless
    more than WORKERS_MAX targets are silent.
    """

    def __init__(
        self,
        changed: Callable[[], object],
        ask: Callable[[str], bool] = connects,
        interval_s: float = INTERVAL_S,
        retry_s: float = PROBE_TIMEOUT_S,
        pauses_s: tuple[float, float] = (ADDRESS_PAUSE_S, TOTAL_PAUSE_S),
    ) -> None:
        self._changed, self._ask = changed, ask
        self._address_pause_s, self._total_pause_s = pauses_s
        self._slot_of: dict[str, float] = {}
        """When the last probe of each address is due that has been scheduled."""
        self._free_at = 0.0
        """When the next probe may begin, whatever its address."""
        self._interval_s, self._retry_s = interval_s, retry_s
        self._lock = threading.Condition()
        self._targets: Mapping[K, str] = {}
        self._failures: Counter[str] = Counter()
        self._due: list[tuple[float, str]] = []
        self._scheduled: set[str] = set()
        """Targets that wait for their next probe, or are being probed."""
        self._workers = 0
        self._is_stopped = False
        self.down: frozenset[K] = frozenset()
        """The keys whose targets are down."""

    def watch(self, targets: Mapping[K, str]) -> None:
        """Probe these targets from now on, and no others; known ones keep their state."""
        if targets == self._targets and (self._workers or not targets):
            return
        with self._lock:
            self._targets = dict(targets)
            wanted = set(self._targets.values())
            for gone in self._failures.keys() - wanted:
                del self._failures[gone]
            for new in wanted - self._scheduled:
                self._scheduled.add(new)
                self._schedule(time.monotonic(), new)
            self.down = self._are_down()
            while self._workers < min(WORKERS_MAX, len(wanted)) and not self._is_stopped:
                try:
                    threading.Thread(target=self._work, name="health probe", daemon=True).start()
                except RuntimeError as problem:  # one more than the process may have
                    log.warning("health probe not started", reason=str(problem))
                    break
                self._workers += 1  # it waits for the lock
            self._lock.notify_all()

    def stop(self) -> None:
        """Stop all probes."""
        with self._lock:
            self._is_stopped = True
            self._lock.notify_all()

    def _work(self) -> None:
        while (target := self._next()) is not None:
            began = time.monotonic()
            try:
                is_up = self._ask(target)
            except Exception as problem:  # the edge of the loop: other targets must be probed
                log.error("probe failed", target=target, exc_info=problem)
                is_up = False
            if self._record(target, is_up, began):
                self._notify()

    def _next(self) -> str | None:
        """Wait for the next target that is due; None if this worker is not needed any more."""
        with self._lock:
            while True:
                now = time.monotonic()
                if self._is_stopped or self._workers > max(1, len(self._scheduled)):
                    self._workers -= 1
                    return None
                start = max(self._due[0][0], self._free_at) if self._due else None
                if start is not None and start <= now:
                    self._free_at = now + self._total_pause_s
                    return heapq.heappop(self._due)[1]
                self._lock.wait(None if start is None else start - now)

    def _record(self, target: str, is_up: bool, began: float) -> bool:
        """Record the result of a probe; whether ``down`` has changed."""
        with self._lock:
            if target not in self._targets.values():
                self._scheduled.discard(target)
                self._forget_slots()
                return False
            due = time.monotonic() + self._interval_s
            if is_up:
                del self._failures[target]
            else:
                self._failures[target] = min(self._failures[target] + 1, FAILURES)
                if self._failures[target] < FAILURES:
                    due = began + self._retry_s
            self._schedule(due, target)
            self._lock.notify()
            before, self.down = self.down, self._are_down()
            return before != self.down

    def _forget_slots(self) -> None:
        """Forget when addresses were probed that no target has any more; with the lock held."""
        if len(self._slot_of) <= 2 * len(self._scheduled):
            return
        oldest = time.monotonic() - self._address_pause_s
        used = {_address_of(target) for target in self._scheduled}
        self._slot_of = {a: at for a, at in self._slot_of.items() if a in used or at > oldest}

    def _schedule(self, due: float, target: str) -> None:
        """Have a target probed when it is due, or when its address may be again; with the lock."""
        address = _address_of(target)
        due = max(due, self._slot_of.get(address, 0.0) + self._address_pause_s)
        self._slot_of[address] = due
        heapq.heappush(self._due, (due, target))

    def _are_down(self) -> frozenset[K]:
        failed = {target for target, count in self._failures.items() if count >= FAILURES}
        return frozenset(key for key, target in self._targets.items() if target in failed)

    def _notify(self) -> None:
        log.info("health of sensors changed", down=sorted(map(str, self.down)))
        try:
            self._changed()
        except Exception as problem:  # the edge of the loop: other targets must be probed
            log.error("listener to health of sensors failed", exc_info=problem)
