"""The Prometheus metrics of this controller, which /metrics shows."""

from __future__ import annotations

import threading
import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
)

REGISTRY = CollectorRegistry()
PLANS = Counter(
    "cloudtap_plans_applied", "Plans sent to a bridge and confirmed by it.",
    ["bridge", "dpid"], registry=REGISTRY,
)  # fmt: skip
DRIFTS = Counter(
    "cloudtap_drifts_found", "Times that a bridge was found other than it was left.",
    ["bridge", "dpid"], registry=REGISTRY,
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
CLAIMS_REFUSED = Counter(
    "cloudtap_claims_refused",
    "Peers that claimed to be a bridge, database or place that another one speaks for.", ["claim"],
    registry=REGISTRY,
)  # fmt: skip
NUMBERS_REUSED = Counter(
    "cloudtap_port_numbers_reused",
    "OpenFlow port numbers that passed from one port to another without a pause.",
    registry=REGISTRY,
)
CERTIFICATE_EXPIRY = Gauge(
    "cloudtap_certificate_expiry_timestamp_seconds",
    "When the certificates of a file of the configuration run out, in Unix time.",
    ["section", "file"], registry=REGISTRY,
)  # fmt: skip
HTTP_CONNECTIONS = Gauge(
    "cloudtap_http_connections", "Connections of clients of the API.", registry=REGISTRY
)
HTTP_REFUSALS = Counter(
    "cloudtap_http_refusals", "Requests that never reached the API, by status.", ["status"],
    registry=REGISTRY,
)  # fmt: skip
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)


def forget_bridge_metrics(dpid: int) -> None:
    """Drop the series of a bridge that is known no more."""
    for metric in (PLANS, DRIFTS):
        metric.remove_by_labels({"dpid": f"{dpid:016x}"})


BEAT_S = 0.05
"""Interval of the measurements, in seconds."""
LOOP_SILENCE_S = 5.0
"""An event loop that has not run for longer hangs: /healthz fails, and systemd is told nothing."""


class LoopMonitor:
    """Measures how late a sleeping thread runs again: under ryu, the delay of the event loop."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._beat_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="loop monitor", daemon=True)

    def start(self) -> None:
        """Start to measure."""
        self._beat_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop to measure."""
        self._stopping.set()

    def silence(self) -> float:
        """Seconds since the last measurement; 0 before ``start`` and after ``stop``."""
        if self._beat_at is None or self._stopping.is_set():
            return 0.0
        return time.monotonic() - self._beat_at

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stopping.wait(BEAT_S):
            self._beat_at = now = time.monotonic()
            LOOP_SECONDS.observe(max(0.0, now - before - BEAT_S))
            before = now


LOOP_MONITOR = LoopMonitor()
"""The monitor of this process."""
