"""A real bridge whose answers to some questions never come, while it answers all others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from controller.api.context import SYNC_TIMEOUT_S
from tests.ovs.controller_process import DEADLINE_S, ControllerProcess
from tests.ovs.lab import vsctl
from tests.ovs.openflow_proxy import (
    PROXY_TARGET,
    OpenFlowProxy,
    is_barrier_reply,
    is_meter_counters,
)
from tests.ovs.small_cloud import DB, WEB, SmallCloud
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

NOT_TOLD = "has not told its counters since"
LIMIT = 400
SLOW_S = 4.0
"""What an answer may take longer on a loaded machine; without a bound it took 11 s longer."""


@pytest.fixture
def proxy(controller: ControllerProcess) -> Iterator[OpenFlowProxy]:
    """Between bridge s1 and the controller; it passes everything on at first."""
    with OpenFlowProxy() as proxy:
        vsctl("set-controller", "s1", PROXY_TARGET)
        wait_for(lambda: len(proxy.switches) > 0, bool, DEADLINE_S)
        wait_for(lambda: controller.bridge("s1").get("state"), "active".__eq__, DEADLINE_S)
        yield proxy


def has_said(seen: dict[str, Any]) -> bool:
    """Whether a session or a bridge says that its counters are not told."""
    return any(NOT_TOLD in reason for reason in seen["reasons"])


def age_s(controller: ControllerProcess) -> float:
    """How old the counters of s1 are, as the metrics tell it."""
    lines = controller.api.get("/metrics").text.splitlines()
    [line] = [x for x in lines if x.startswith("cloudtap_bridge_counters_age_seconds{")]
    return float(line.split()[-1])


def test_counters_that_never_come_are_said_and_limits_act_once_they_do(
    controller: ControllerProcess, cloud: SmallCloud, proxy: OpenFlowProxy
) -> None:
    controller.create_session("red", "limited", ["web"], "ids", max_packets=LIMIT)

    def status() -> dict[str, Any]:
        found: dict[str, Any] = controller.session("limited")["status"]
        return found

    wait_for(lambda: status()["state"], "active".__eq__, DEADLINE_S)
    with Traffic([cloud.at[name] for name in ("red-web", "red-db", "red-ids")]) as traffic:
        proxy.keeps = is_meter_counters
        stream = traffic.add(cloud.at["red-web"], WEB, DB)
        seen = wait_for(status, has_said, DEADLINE_S)
        assert seen["state"] == "degraded"
        assert any("cannot stop it" in reason for reason in seen["reasons"])
        bridge = controller.bridge("s1")
        assert (bridge["state"], has_said(bridge)) == ("degraded", True)
        assert any(NOT_TOLD in problem for problem in controller.status()["problems"])
        assert age_s(controller) > 5
        traffic.wait_until_spread(stream, cloud.at["red-ids"], 2 * LIMIT)
        proxy.keeps = lambda message: False
        wait_for(lambda: status()["state"], "stopped".__eq__, DEADLINE_S)
    wait_for(lambda: controller.bridge("s1")["state"], "active".__eq__, DEADLINE_S)
    assert not has_said(status())
    assert controller.status()["problems"] == []


def test_a_change_is_answered_in_time_although_the_bridge_confirms_nothing(
    controller: ControllerProcess, proxy: OpenFlowProxy
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    proxy.keeps = is_barrier_reply
    begun = time.monotonic()
    answer = controller.api.patch("/v1/sessions/one", json={"direction": "egress"})
    took = time.monotonic() - begun
    assert answer.status_code == 200
    assert took < SYNC_TIMEOUT_S + SLOW_S
