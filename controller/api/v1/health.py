"""/healthz, /readyz and /metrics: for what restarts, routes to, and watches this controller."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain

from flask import Blueprint, Response
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from controller.api.context import Context, context
from controller.process.metrics import PULSE, REGISTRY
from controller.process.pauses import Pauses
from controller.status.values import BridgeShare, BridgeStatus, State
from flows.errors import CloudtapError
from flows.model.session import Dpid

SILENCE_S = 5.0
"""A process whose threads have not run for so long is not well."""
NOWHERE = (BridgeShare(Dpid(0), "", State.PENDING),)
"""A session that no bridge has to do with is there all the same, at no bridge, with nothing."""

health = Blueprint("health", __name__)


@health.get("/healthz")
def alive() -> Response:
    """Whether this process works at all: it answers, and its event loop turns."""
    silence = PULSE.silence()
    if silence > SILENCE_S:
        return _answer(503, {"alive": False, "reason": f"nothing has run for {silence:.0f} s"})
    return _answer(200, {"alive": True})


@health.get("/readyz")
def ready() -> Response:
    """Whether wishes can be taken and brought to switches; says only what kind of thing hinders."""
    parts = context()
    missing = []
    if not parts.reconcile.vitals().is_ready:
        missing.append("the inventory or the Open vSwitch databases are not known yet")
    try:
        parts.store.prove_writable()
    except CloudtapError:
        missing.append("the state cannot be stored: see the log and `cloudtap status`")
    return _answer(503 if missing else 200, {"ready": not missing, "missing": missing})


@health.get("/metrics")
def metrics() -> Response:
    """Everything that is counted, in the text format of Prometheus."""
    pauses = Pauses()
    families = chain(REGISTRY.collect(), _standing(context(), pauses))
    text = [_text_of(family, pauses) for family in families]
    return Response(b"".join(text), content_type=CONTENT_TYPE_LATEST)


def _text_of(family: Metric, pauses: Pauses) -> bytes:
    """One family of values; others may run before the next, of 1,000 bridges it has thousands."""
    text = generate_latest(_Alone(family))
    pauses.pause()
    return text


def _answer(status: int, body: dict[str, object]) -> Response:
    return Response(json.dumps(body), status, mimetype="application/json")


class _Alone(Collector):
    """One family of values, as something that can be asked for them."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> list[Metric]:
        """That family."""
        return [self._family]


def _standing(parts: Context, pauses: Pauses) -> Iterator[Metric]:
    """What is read when it is asked for, rather than counted when it happens."""
    yield from _of_bridges(parts.reconcile.bridges())
    yield from _of_sessions(parts, pauses)
    vitals = parts.reconcile.vitals()
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
        value=len(parts.reconcile.problems()),
    )  # fmt: skip


def _of_bridges(bridges: Iterable[BridgeStatus]) -> Iterator[Metric]:
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
    for bridge in bridges:
        of = [bridge.name, f"{bridge.dpid:016x}"]
        flows.add_metric(of, bridge.flows)
        connected.add_metric(of, float(bridge.connected))
        errors.add_metric(of, bridge.errors)
        shed.add_metric(of, bridge.shed)
        for state in State:
            states.add_metric([*of, state.value], float(bridge.state is state))
    yield from (flows, connected, states, errors, shed)


def _of_sessions(parts: Context, pauses: Pauses) -> Iterator[Metric]:
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
    states = dict.fromkeys(State, 0)
    for record in parts.store.sessions():
        session, status = record.session, parts.reconcile.session_status(record.session.id)
        states[status.state] += 1
        for share in status.bridges or NOWHERE:
            at = [share.bridge, f"{share.dpid:016x}" if share.bridge else ""]
            of = [session.id, session.name, session.tenant, *at]
            packets.add_metric(of, share.copies.packets)
            sizes.add_metric(of, share.copies.bytes)
            truncated.add_metric(of, share.truncated)
            for reason, count in share.skipped.items():
                skipped.add_metric([*of, reason], count)
        pauses.pause()  # each looks at all bridges
    yield from (packets, sizes, truncated, skipped)
    sessions = GaugeMetricFamily("cloudtap_sessions", "Sessions in each state.", labels=["state"])
    for state, count in states.items():
        sessions.add_metric([state.value], count)
    yield sessions
