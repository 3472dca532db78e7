"""What is counted for whoever watches this controller; /metrics shows it."""

from __future__ import annotations

import threading
import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    ProcessCollector,
)

REGISTRY = CollectorRegistry()
PLANS = Counter(
    "cloudtap_plans_applied", "Plans sent to a bridge and confirmed by it.", ["bridge"],
    registry=REGISTRY,
)  # fmt: skip
DRIFTS = Counter(
    "cloudtap_drifts_found", "Times that a bridge was found other than it was left.", ["bridge"],
    registry=REGISTRY,
)  # fmt: skip
APPLY_SECONDS = Histogram(
    "cloudtap_apply_seconds", "From the first byte of a plan to the confirmation of the bridge.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    registry=REGISTRY,
)  # fmt: skip
LOOP_SECONDS = Histogram(
    "cloudtap_loop_delay_seconds", "How much later than asked for a waiting thread ran again.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
    registry=REGISTRY,
)  # fmt: skip
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

BEAT_S = 0.05
"""How often the event loop is asked."""


class Pulse:
    """Measures whether threads get to run: under ryu that is the delay of its event loop."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._beat_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._beat_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Measure no more."""
        self._stopping.set()

    def silence(self) -> float:
        """Seconds since the last beat; 0 while nothing is measured."""
        return 0.0 if self._beat_at is None else time.monotonic() - self._beat_at

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stopping.wait(BEAT_S):
            self._beat_at = now = time.monotonic()
            LOOP_SECONDS.observe(max(0.0, now - before - BEAT_S))
            before = now


PULSE = Pulse()
"""That of this process."""
