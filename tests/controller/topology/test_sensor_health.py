"""What may be asked of a controller by whatever restarts, routes to, and watches it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from controller.api import make_app
from controller.api.v1.health import LINES_TOGETHER, text_of
from controller.process import metrics
from controller.process.metrics import LoopMonitor
from controller.status import BridgeShare, SessionStatus, State
from controller.store import Store
from flows.model import Dpid
from flows.openflow import PacketCount
from tests.controller.fakes import TWO_TENANTS, FakeReconciler, fill, open_store
from tests.ovs.waiting import wait_for

TOKEN = "a-secret-of-thirty-two-characters"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def fake(store: Store) -> FakeReconciler:
    return fill(store, TWO_TENANTS)


@pytest.fixture
def client(store: Store, fake: FakeReconciler) -> FlaskClient:
    return make_app(store, lambda: TWO_TENANTS, fake, fake, lambda: TOKEN).test_client()


def with_token() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}"}


def values(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """Every value: its name, then its labels sorted by name, as text."""
    text = client.get("/metrics", headers=with_token()).text
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def add_session(client: FlaskClient) -> str:
    headers = with_token()
    body = {"name": "ids", "tenant": "red", "sensors": [{"port": "ids-1"}]}
    made = client.post("/v1/collectors", json=body, headers=headers)
    assert made.status_code == 201, made.text
    body = {
        "name": "tap", "tenant": "red", "source": {"ports": ["web-1"]}, "collector": "ids"
    }  # fmt: skip
    made = client.post("/v1/sessions", json=body, headers=headers)
    assert made.status_code == 201, made.text
    return str(made.get_json()["id"])


def test_health_needs_no_token_and_tells_no_secret(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"alive": True}
    assert client.get("/readyz").status_code == 200
    assert client.get("/metrics").status_code == 401
    everything = client.get("/metrics", headers=with_token()).text
    assert TOKEN not in everything + client.get("/readyz").text


def test_a_controller_that_knows_too_little_is_not_ready(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    fake.is_reachable = False

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert "inventory" in answer.get_json()["missing"][0]
    assert client.get("/healthz").status_code == 200


def test_a_state_that_cannot_be_stored_is_not_ready(client: FlaskClient, tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.get_json()["missing"] == [
        "the state cannot be stored: see the log and `cloudtap status`"
    ]
    assert str(tmp_path) not in answer.text
    holder.execute("ROLLBACK")
    holder.close()
    assert client.get("/readyz").status_code == 200


def test_metrics_show_bridges_sessions_and_what_waits(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    session = add_session(client)

    seen = values(client)

    s1 = ("bridge=s1", "dpid=fe00000000000001")
    assert seen["cloudtap_bridge_flows", *s1] == 40
    assert seen["cloudtap_bridge_connected", *s1] == 1
    assert seen["cloudtap_bridge_state", *s1, "state=active"] == 1
    assert seen["cloudtap_bridge_state", *s1, "state=degraded"] == 0
    of = (*s1, "name=tap", f"session={session}", "tenant=red")
    assert seen["cloudtap_session_copied_packets_total", *of] == 3
    assert seen["cloudtap_session_copied_bytes_total", *of] == 180
    assert seen["cloudtap_sessions", "state=active"] == 1
    states = {key[1:]: value for key, value in seen.items() if key[0] == "cloudtap_session_state"}
    assert states == {("name=tap", f"session={session}", "state=active", "tenant=red"): 1}
    assert seen["cloudtap_handler_errors_total",] == 3
    assert seen["cloudtap_queue_length", "queue=answers of switches"] == 2
    assert seen["process_resident_memory_bytes",] > 0
    fake.is_reachable = False
    assert values(client)["cloudtap_bridge_connected", *s1] == 0


def test_metrics_show_what_each_bridge_has_counted_of_a_session(
    client: FlaskClient, fake: FakeReconciler
) -> None:
    fake.others = (
        BridgeShare(Dpid(2), "s1", State.INACTIVE, PacketCount(7, 700), 4, {"mtu": 5}),
        BridgeShare(Dpid(3), "s3", State.ACTIVE, skipped={"mtu": 1, "rate": 2}),
    )
    session = add_session(client)

    seen = values(client)

    of = ("name=tap", f"session={session}", "tenant=red")
    second = ("bridge=s1", "dpid=0000000000000002", *of)  # hosts may call their bridges the same
    third = ("bridge=s3", "dpid=0000000000000003", "name=tap")
    assert seen["cloudtap_session_copied_bytes_total", *second] == 700
    assert seen["cloudtap_copies_truncated_total", *second] == 4
    skipped = {k[1:]: v for k, v in seen.items() if k[0] == "cloudtap_copies_skipped_total"}
    assert skipped == {
        (*second[:3], "reason=mtu", *of[1:]): 5,
        (*third, "reason=mtu", *of[1:]): 1,
        (*third, "reason=rate", *of[1:]): 2,
    }
    copied = [v for k, v in seen.items() if k[0] == "cloudtap_session_copied_packets_total"]
    assert sorted(copied) == [0, 3, 7]


def test_a_session_that_no_bridge_has_to_do_with_has_a_value_too(
    client: FlaskClient, fake: FakeReconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "session_status", lambda session: SessionStatus(State.PENDING))
    session = add_session(client)

    of = ("bridge=", "dpid=", "name=tap", f"session={session}", "tenant=red")
    assert values(client)["cloudtap_session_copied_packets_total", *of] == 0


def test_what_was_counted_is_shown(client: FlaskClient) -> None:
    metrics.PLANS.labels("a bridge", "1").inc()
    metrics.DRIFTS.labels("a bridge", "1").inc(2)
    metrics.APPLY_SECONDS.observe(0.003)

    seen = values(client)

    assert seen["cloudtap_plans_applied_total", "bridge=a bridge", "dpid=1"] == 1
    assert seen["cloudtap_drifts_found_total", "bridge=a bridge", "dpid=1"] == 2
    assert seen["cloudtap_apply_seconds_bucket", "le=0.005"] >= 1


@pytest.mark.parametrize("count", [0, 1, LINES_TOGETHER, 3 * LINES_TOGETHER + 1])
def test_metrics_in_parts_are_those_that_the_library_writes(count: int) -> None:
    registry = CollectorRegistry()
    counter = Counter("things", "What is counted.", ["name"], registry=registry)
    gauge = Gauge("level", "A level.", ["name"], registry=registry)
    histogram = Histogram("time", "A time.", ["name"], registry=registry)
    for number in range(count):
        counter.labels(f"t{number}").inc(number)
        gauge.labels(f'quoted "{number}"\\').set(number / 3)
        histogram.labels(f"h{number}").observe(number)
    pauses: list[None] = []

    parts = [p for f in registry.collect() for p in text_of(f, lambda: pauses.append(None))]

    assert b"".join(parts) == generate_latest(registry)
    assert max(part.count(b"\n") for part in parts) <= LINES_TOGETHER + 2
    assert bool(pauses) == bool(count)


def test_a_process_in_which_nothing_runs_is_not_well(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics.LoopMonitor, "silence", lambda pulse: 6.0)

    answer = client.get("/healthz")

    assert (answer.status_code, answer.get_json()["alive"]) == (503, False)


def test_a_pulse_beats_until_it_is_stopped() -> None:
    pulse = LoopMonitor()
    assert pulse.silence() == 0
    before = metrics.LOOP_SECONDS.collect()
    pulse.start()

    def beats() -> float:
        (family,) = metrics.LOOP_SECONDS.collect()
        return next(s.value for s in family.samples if s.name.endswith("_count"))

    assert before
    first = beats()
    wait_for(beats, lambda count: count > first)
    assert pulse.silence() < 5
    pulse.stop()
    assert pulse.silence() == 0, "a process that ends is alive as long as it answers"
