"""/healthz, /readyz and /metrics: probes of liveness and readiness, and metrics for Prometheus."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import chain

from flask import Blueprint, Response
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from controller.api.context import Context, context
from controller.process import LOOP_MONITOR, LOOP_SILENCE_S, REGISTRY, Yielder, visible
from controller.status import BridgeShare, BridgeStatus, State
from flows.errors import CloudtapError
from flows.model import Dpid

NO_BRIDGE = (BridgeShare(Dpid(0), "", State.PENDING),)
"""Labels of a session that is on no bridge: its counters are exported all the same, as 0."""

LINES_TOGETHER = 100
"""So many lines of metrics are written before other threads may run."""

health = Blueprint("health", __name__)


@health.get("/healthz")
def alive() -> Response:
    """Liveness: the process answers, and its event loop runs."""
    silence = LOOP_MONITOR.silence()
    if silence > LOOP_SILENCE_S:
        return _answer(503, {"alive": False, "reason": f"nothing has run for {silence:.0f} s"})
    return _answer(200, {"alive": True})


@health.get("/readyz")
def ready() -> Response:
    """Readiness: changes can be stored and sent. Needs no token, so the answer names no object."""
    parts = context()
    missing = []
    if not parts.inspector.vitals().is_ready:
        missing.append("the inventory or the Open vSwitch databases are not known yet")
    try:
        parts.store.prove_writable()
    except CloudtapError:
        missing.append("the state cannot be stored: see the log and `cloudtap status`")
    return _answer(503 if missing else 200, {"ready": not missing, "missing": missing})


@health.get("/metrics")
def metrics() -> Response:
    """All metrics, in the text format of Prometheus."""
    yielder = Yielder()
    families = chain(REGISTRY.collect(), _computed_metrics(context(), yielder))
    text = [part for family in families for part in text_of(family, yielder.pause)]
    return Response(b"".join(text), content_type=CONTENT_TYPE_LATEST)


def text_of(family: Metric, pause: Callable[[], None]) -> Iterator[bytes]:
    """One metric family as text, in parts; ``pause`` is called after each.

    1,000 bridges make thousands of lines, which prometheus_client writes in one go.
    """
    created = [sample for sample in family.samples if sample.name == f"{family.name}_created"]
    others = [sample for sample in family.samples if sample.name != f"{family.name}_created"]
    head = _lines(family, [])
    yield b"".join(head)
    for some in _in_parts(others):
        yield b"".join(_lines(family, some)[len(head) :])
        pause()
    for number, some in enumerate(_in_parts(created)):  # a family of its own, with its own head
        yield b"".join(_lines(family, some)[len(head) * (1 if number == 0 else 2) :])
        pause()


def _lines(family: Metric, samples: Sequence[Sample]) -> list[bytes]:
    """The lines of a family that has these samples: two of its head, and one for each sample."""
    part = copy(family)
    part.samples = [_printable(sample) for sample in samples]
    return generate_latest(_SingleFamily(part)).splitlines(keepends=True)


def _printable(sample: Sample) -> Sample:
    """The same sample; names of bridges come from switches."""
    if all(value.isprintable() for value in sample.labels.values()):
        return sample
    return sample._replace(labels={name: visible(value) for name, value in sample.labels.items()})


def _in_parts(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    for first in range(0, len(samples), LINES_TOGETHER):
        yield samples[first : first + LINES_TOGETHER]


def _answer(status: int, body: dict[str, object]) -> Response:
    return Response(json.dumps(body), status, mimetype="application/json")


class _SingleFamily(Collector):
    """One metric family as a collector of prometheus_client."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> list[Metric]:
        """The family."""
        return [self._family]


def _computed_metrics(parts: Context, yielder: Yielder) -> Iterator[Metric]:
    """Metrics that are computed for each scrape."""
    yield from _of_bridges(parts.inspector.bridges(), yielder)
    yield from _of_sessions(parts, yielder)
    vitals = parts.inspector.vitals()
    yield CounterMetricFamily(
        "cloudtap_handler_errors", "Events of switches that could not be handled.",
        value=vitals.handler_errors,
    )  # fmt: skip
    queues = GaugeMetricFamily("cloudtap_queue_length", "What waits.", labels=["queue"])
    for name, length in vitals.queues.items():
        queues.add_metric([name], length)
    yield queues
    yield GaugeMetricFamily(
        "cloudtap_problems", "What hinders the whole system: see `cloudtap status`.",
        value=len(parts.inspector.problems()),
    )  # fmt: skip


def _of_bridges(bridges: Iterable[BridgeStatus], yielder: Yielder) -> Iterator[Metric]:
    labels = ["bridge", "dpid"]
    flows = GaugeMetricFamily("cloudtap_bridge_flows", "Verified flows of ours.", labels=labels)
    connected = GaugeMetricFamily("cloudtap_bridge_connected", "1 when connected.", labels=labels)
    states = GaugeMetricFamily(
        "cloudtap_bridge_state", "1 for the state it is in.", labels=[*labels, "state"]
    )
    errors = CounterMetricFamily(
        "cloudtap_bridge_errors", "Attempts that failed since it connected.", labels=labels
    )
    shed = CounterMetricFamily(
        "cloudtap_bridge_copies_shed", "Copies that exceeded the cap of the bridge.", labels=labels
    )
    ages = GaugeMetricFamily(
        "cloudtap_bridge_counters_age_seconds", "How old the last counters are.", labels=labels
    )
    for bridge in bridges:
        values = [bridge.name, f"{bridge.dpid:016x}"]
        if bridge.counters_age_s is not None:
            ages.add_metric(values, bridge.counters_age_s)
        flows.add_metric(values, bridge.flows)
        connected.add_metric(values, float(bridge.connected))
        errors.add_metric(values, bridge.errors)
        shed.add_metric(values, bridge.shed)
        for state in State:
            states.add_metric([*values, state.value], float(bridge.state is state))
        yielder.pause()
    yield from (flows, connected, states, errors, shed, ages)


def _of_sessions(parts: Context, yielder: Yielder) -> Iterator[Metric]:
    labels = ["session", "name", "tenant", "bridge", "dpid"]
    packets = CounterMetricFamily(
        "cloudtap_session_copied_packets", "Copies that the switches counted.", labels=labels
    )
    sizes = CounterMetricFamily(
        "cloudtap_session_copied_bytes", "Bytes of the copied packets.", labels=labels
    )
    skipped = CounterMetricFamily(
        "cloudtap_copies_skipped", "Wanted copies that were not made.", labels=[*labels, "reason"]
    )
    truncated = CounterMetricFamily(
        "cloudtap_copies_truncated", "Copies cut to fit the path to their sensor.", labels=labels
    )
    current = GaugeMetricFamily(
        "cloudtap_session_state", "1: the state that the session is in; one series for each.",
        labels=["session", "name", "tenant", "state"],
    )  # fmt: skip
    states = dict.fromkeys(State, 0)
    stored = [record.session for record in parts.store.sessions.all()]
    statuses = parts.inspector.session_statuses(session.id for session in stored)
    for session, status in zip(stored, statuses, strict=True):
        states[status.state] += 1
        current.add_metric([session.id, session.name, session.tenant, status.state.value], 1)
        for share in status.bridges or NO_BRIDGE:
            at = [share.bridge, f"{share.dpid:016x}" if share.bridge else ""]
            values = [session.id, session.name, session.tenant, *at]
            packets.add_metric(values, share.copies.packets)
            sizes.add_metric(values, share.copies.bytes)
            truncated.add_metric(values, share.truncated)
            for reason, count in share.skipped.items():
                skipped.add_metric([*values, reason], count)
        yielder.pause()
    yield from (packets, sizes, truncated, skipped, current)
    sessions = GaugeMetricFamily("cloudtap_sessions", "Sessions in each state.", labels=["state"])
    for state, count in states.items():
        sessions.add_metric([state.value], count)
    yield sessions
