"""Open vSwitch ends and comes back, and others change flows: isolation holds, copies return."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.openflow.flow import make_cookie
from tests.ovs import open_vswitch
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab, ofctl
from tests.ovs.scene import INVENTORY, Scene, build, make_collectors
from tests.ovs.test_controller_restart import flows_of
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for


@pytest.fixture
def scene(lab: Lab) -> Scene:
    return build(lab)


@pytest.fixture
def controller(tmp_path: Path, scene: Scene) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1", bridges__recheck_seconds="0.2")
        make_collectors(process)
        process.create_session("red", "one", ["web"], "ids")
        process.create_session("blue", "other", ["web", "db"], "ids", direction="ingress")
        yield process


def test_a_restarted_vswitchd_forwards_nothing_before_its_flows_and_then_all_copies(
    scene: Scene, controller: ControllerProcess
) -> None:
    with Traffic(scene.at.values()) as traffic:
        red, blue = scene.red_streams(traffic), scene.blue_streams(traffic)
        traffic.wait_until_past(red[0], scene.at["red-ids"], 5)
        plans = controller.bridge("s1")["plans"]
        open_vswitch.kill("ovs-vswitchd")
        killed, last = time.monotonic(), traffic.now(red[0])
        wait_for(lambda: controller.bridge("s1")["connected"], lambda there: not there)
        status = controller.session("one")["status"]
        assert status["state"] == "degraded"
        assert "unless it has stopped, it copies on" in status["reasons"][0]
        started = time.monotonic()
        open_vswitch.start_vswitchd()
        for stream, tap in ((red[0], "red-ids"), (red[1], "red-ids"), (blue[1], "blue-ids")):
            traffic.wait_until_past(stream, scene.at[tap], last)
        first = min(n for n in traffic.arrived(red[0], scene.at["red-ids"]) if n > last)
        copied = traffic.when(red[0], scene.at["red-ids"], first)
        print(f"first copy {copied - started:.2f} s after the start, {copied - killed:.2f} s after")
        controller.wait_for_session("one")
        controller.wait_for_session("other")
        assert controller.bridge("s1")["plans"] <= plans
        known = {
            "red-web": red[1:], "red-db": red[:1], "red-ids": red, "red-soc": (),
            "blue-web": blue[1:], "blue-db": blue[:1], "blue-ids": blue,
        }  # fmt: skip
        seen_first = min(n for n in traffic.arrived(red[0], scene.at["red-db"]) if n > last)
        assert first <= seen_first, "no packet was delivered before it could be copied"
        begin = traffic.now(red[0])
        traffic.wait_until_past(red[0], scene.at["red-db"], begin + 20)
        for name in ("red-db", "red-ids"):
            assert not traffic.faults(red[0], scene.at[name], begin + 1, begin + 20)
        for name, streams in known.items():
            assert not traffic.strangers(scene.at[name], streams), f"strangers at {name}"
            for stream in streams:
                twice = [n for n, k in traffic.arrived(stream, scene.at[name]).items() if k > 1]
                assert not twice, f"twice at {name}"


def test_a_restarted_ovsdb_server_changes_nothing_for_traffic(
    scene: Scene, controller: ControllerProcess
) -> None:
    with Traffic(scene.at.values()) as traffic:
        there, back = scene.red_streams(traffic)
        traffic.wait_until_past(there, scene.at["red-ids"], 5)
        before, plans = flows_of("s1").keys(), controller.bridge("s1")["plans"]
        open_vswitch.kill("ovsdb-server")
        controller.wait_for_problem("db.sock")
        assert controller.session("one")["status"]["state"] == "active"
        open_vswitch.start_ovsdb_server()
        wait_for(lambda: controller.status()["problems"], lambda found: not found)
        traffic.wait_until_past(there, scene.at["red-ids"], traffic.now(there) + 200)
        traffic.stop()
        for stream, end in ((there, "red-db"), (back, "red-web")):
            for name in (end, "red-ids"):
                traffic.wait_for(stream, scene.at[name], stream.last)
                assert not traffic.faults(stream, scene.at[name], 1, stream.last)
        assert controller.session("one")["status"]["state"] == "active"
        assert (flows_of("s1").keys(), controller.bridge("s1")["plans"]) == (before, plans)


def test_flows_that_somebody_removes_or_alters_are_repaired(
    scene: Scene, controller: ControllerProcess
) -> None:
    before = flows_of("s1").keys()
    changes = (
        ("del-flows", "s1", "table=41"),
        ("del-flows", "s1"),
        ("mod-flows", "s1", "table=90,actions=drop"),
        ("mod-flows", "s1", "table=31,actions=drop"),
        ("add-flow", "s1", f"cookie={make_cookie(1, 7):#x},table=90,priority=7,actions=output:7"),
    )
    for words in changes:
        begun = time.monotonic()
        ofctl(*words)
        assert flows_of("s1").keys() != before, "the change did not change anything"
        wait_for(lambda: flows_of("s1").keys(), lambda seen: seen == before)
        print(f"{' '.join(words)}: repaired after {time.monotonic() - begun:.2f} s")
    log = controller.log()
    assert log.count("flows had drifted") == len(changes), log
    controller.wait_for_session("one")


def test_a_flow_of_somebody_else_is_reported_and_left_alone(
    scene: Scene, controller: ControllerProcess
) -> None:
    ofctl("add-flow", "s1", "table=0,priority=50000,in_port=2,actions=output:3")
    bridge = controller.wait_for_bridge("s1", "degraded")
    assert bridge["reasons"] == [
        "1 flows are not ours: they may break isolation; see "
        "`ovs-ofctl -O OpenFlow13 dump-flows s1`"
    ]
    plans = bridge["plans"]
    controller.delete_session("one")
    assert controller.bridge("s1")["plans"] == plans + 1
    foreign = ofctl("dump-flows", "s1", "table=0,in_port=2")
    assert "priority=50000,in_port=2 actions=output:3" in foreign
    ofctl("--strict", "del-flows", "s1", "table=0,priority=50000,in_port=2")
    controller.wait_for_bridge("s1")
