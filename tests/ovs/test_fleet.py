"""Many fake switches, some of them faulty: no switch delays another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.openflow import object_of
from flows.pipeline import COUNT, DELIVER
from tests.fake_switches import FakeSwitch, Fleet, many_bridges
from tests.fake_switches.refusal import Refusal
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.waiting import wait_for, wait_for_all

PORTS = 3
MANY = 1000
FLOODED = (
    "that nobody asked for",
    "it sent more than is read of one switch",
    "it answered none of",
)
"""Why a switch that floods is disconnected: the first of these where its messages are read quickly,
the others on a machine that is busy, where answers wait behind them."""
LARGE = 2_500
"""Ports of one bridge whose flows are sent in several bundles."""


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, None) as process:
        yield process


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet("127.0.0.1", 6653) as connected:
        yield connected


def begin(
    controller: ControllerProcess, fleet: Fleet, count: int, ports: int = PORTS, **settings: str
) -> list[FakeSwitch]:
    """Start a controller with a session on each of ``count`` bridges, and connect all bridges."""
    many_bridges.store_sessions(controller.folder / "state", count, ports)
    many_bridges.remember(controller.folder / "state", count, ports)
    controller.inventory.write_text(many_bridges.inventory(count, ports))
    controller.start(**settings)
    switches = many_bridges.switches(count, ports)
    fleet.add(*switches)
    return switches


def active(controller: ControllerProcess) -> set[str]:
    answer = controller.api.get("/v1/bridges?limit=1000").raise_for_status().json()
    return {b["name"] for b in answer["items"] if b["connected"] and b["state"] == "active"}


def wait_until_active(controller: ControllerProcess, count: int) -> None:
    wait_for_all(lambda: len(active(controller)), count)


def wait_until_read(fleet: Fleet, before: dict[int, int]) -> None:
    """Wait until every switch was read once more: polling the API would be expensive."""
    wait_for_all(
        lambda: sum(s.scans > before.get(dpid, 0) for dpid, s in fleet.switches.items()),
        len(fleet.switches),
    )


def scans(fleet: Fleet) -> dict[int, int]:
    return {dpid: switch.scans for dpid, switch in fleet.switches.items()}


def plans_applied(controller: ControllerProcess) -> int:
    """How many plans all bridges have confirmed since they connected."""
    answer = controller.api.get("/v1/bridges?limit=1000").raise_for_status().json()
    return sum(bridge["plans"] for bridge in answer["items"])


def copying(switch: FakeSwitch) -> set[int]:
    """The sessions that a switch makes copies for."""
    flows = switch.tables.flows.values()
    return {object_of(f.cookie) for f in flows if f.table == DELIVER.number} - {0}


def test_many_switches_that_reconnect_at_once_are_verified_without_a_change(
    controller: ControllerProcess, fleet: Fleet
) -> None:
    switches = begin(controller, fleet, MANY)
    wait_until_read(fleet, {})
    wait_until_active(controller, MANY)
    assert all(len(copying(switch)) == 1 for switch in switches)
    changes = [dict(switch.tables.flows) for switch in switches]
    before = scans(fleet)
    assert plans_applied(controller) >= MANY

    fleet.drop_all()
    wait_until_read(fleet, before)
    wait_until_active(controller, MANY)
    assert plans_applied(controller) == 0
    assert "crowded out" not in controller.log()
    assert [dict(switch.tables.flows) for switch in switches] == changes


def test_a_large_bridge_gets_its_flows_in_stages_while_they_are_compiled(
    controller: ControllerProcess, fleet: Fleet
) -> None:
    (switch,) = begin(controller, fleet, 1, LARGE)
    wait_until_active(controller, 1)

    assert controller.log().count("flows installed early") == 3
    counting = [flow for flow in switch.tables.flows.values() if flow.table == COUNT.number]
    plans = [line for line in controller.log().splitlines() if "plan applied" in line]
    assert len(plans) == 1  # meters cannot be in a bundle: what counts copies comes after
    assert f"added={len(counting)} " in plans[0]
    assert "removed=0" in plans[0]
    assert len(copying(switch)) == 1
    there = dict(switch.tables.flows)
    before = scans(fleet)
    controller.end()
    controller.start()
    wait_until_read(fleet, before)
    wait_until_active(controller, 1)
    assert dict(switch.tables.flows) == there


def test_a_switch_that_answers_nothing_delays_no_other(
    controller: ControllerProcess, fleet: Fleet
) -> None:
    switches = begin(controller, fleet, 10, openflow__echo_seconds="60")
    wait_until_active(controller, 10)
    switches[3].faults.answers = False
    switches[4].faults.reads = False
    fleet.follow_faults()
    fleet.drop(5, restart=True)  # the switch of index 4: it does not read

    for n in (0, 9):
        controller.api.patch(f"/v1/sessions/s{n}", json={"direction": "egress"})

    wait_for(lambda: active(controller), lambda seen: {"b0", "b9"} <= seen and "b4" not in seen, 30)
    assert controller.session("s9")["status"]["state"] == "active"


def test_a_switch_that_answers_no_echo_is_disconnected_and_may_come_back(
    controller: ControllerProcess, fleet: Fleet
) -> None:
    switches = begin(controller, fleet, 3, openflow__echo_seconds="0.3")
    wait_until_active(controller, 3)

    switches[1].faults.answers_echo = False

    wait_for(lambda: controller.log().count("bridge disconnected"), bool, 30)
    assert "it answered none of 4 echo requests" in controller.log()
    switches[1].faults.answers_echo = True
    wait_until_active(controller, 3)
    assert controller.log().count("bridge disconnected  ") >= 1


def test_a_switch_that_floods_is_cut_off_and_the_others_go_on(
    controller: ControllerProcess, fleet: Fleet
) -> None:
    switches = begin(controller, fleet, 5)
    wait_until_active(controller, 5)

    fleet.tell_on(2, *[switches[1].port_status(1)] * 30_000)

    wait_for(controller.log, lambda log: any(words in log for words in FLOODED))
    controller.change_session("s3", direction="egress")
    controller.wait_for_session("s3", seconds=30)
    wait_until_active(controller, 5)
    lines = controller.log().splitlines()
    ended = [line for line in lines if "bridge disconnected" in line]
    assert ended and all("bridge=b1 " in line for line in ended), ended


def test_a_switch_that_takes_nothing_is_cut_off_with_a_reason(
    controller: ControllerProcess, fleet: Fleet
) -> None:
    switches = begin(controller, fleet, 5, openflow__echo_seconds="0.5")
    wait_until_active(controller, 5)

    switches[2].faults.reads = False
    fleet.follow_faults()

    controller.wait_for_problem("was cut off")
    controller.change_session("s3", direction="egress")
    controller.wait_for_session("s3", seconds=30)
    switches[2].faults.reads = True
    fleet.follow_faults()
    wait_until_active(controller, 5)


def test_a_refused_flow_is_named_and_the_other_sessions_get_theirs(
    controller: ControllerProcess, fleet: Fleet
) -> None:
    switches = begin(controller, fleet, 2)
    wait_until_active(controller, 2)
    refused = next(iter(copying(switches[0])))
    switches[0].faults.refuse = lambda cookie: (
        Refusal.TABLE_FULL if object_of(cookie) == refused else None
    )

    fleet.drop(1, restart=True)

    seen = controller.wait_for_bridge("b0", "degraded")
    assert "OFPFMFC_TABLE_FULL" in " ".join(seen["reasons"])
    status = controller.wait_for_session("s0", "pending", "OFPFMFC_TABLE_FULL")["status"]
    assert [(b["bridge"], b["state"]) for b in status["bridges"]] == [("b0", "error")]
    assert copying(switches[0]) == set()
    assert len(switches[0].tables.flows) > 20, "all the rest is there"
    controller.wait_for_session("s1")


def test_a_connection_that_ends_in_the_middle_of_a_bundle_leaves_nothing_half_done(
    controller: ControllerProcess, fleet: Fleet
) -> None:
    switches = begin(controller, fleet, 2)
    wait_until_active(controller, 2)
    before = dict(switches[0].tables.flows)
    switches[0].faults.disconnect_after = switches[0].received + 30

    fleet.drop(1, restart=True)

    wait_for(lambda: controller.log().count("bridge disconnected"), lambda n: n >= 2)
    wait_for(lambda: set(switches[0].tables.flows), lambda flows: flows == set(before))
    controller.wait_for_session("s0")
