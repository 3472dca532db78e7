"""Restarts of Open vSwitch, and foreign changes of flows: isolation holds, copies resume."""

from __future__ import annotations

import operator
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from flows.openflow import make_cookie
from tests.ovs import open_vswitch
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.small_cloud import DB, INVENTORY, WEB, SmallCloud, make_collectors
from tests.ovs.test_controller_restart import flows_of
from tests.ovs.traffic import FRAMES_PER_S, Traffic
from tests.ovs.waiting import wait_for


@pytest.fixture
def controller(tmp_path: Path, cloud: SmallCloud) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1", bridges__recheck_seconds="0.2")
        make_collectors(process)
        process.create_session("red", "one", ["web"], "ids")
        process.create_session("blue", "other", ["web", "db"], "ids", direction="ingress")
        yield process


def test_a_restarted_vswitchd_forwards_nothing_before_its_flows_and_then_all_copies(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    with Traffic(cloud.at.values()) as traffic:
        red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
        traffic.wait_until_past(red[0], cloud.at["red-ids"], 5)
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
            traffic.wait_until_past(stream, cloud.at[tap], last)
        first = min(n for n in traffic.arrived(red[0], cloud.at["red-ids"]) if n > last)
        copied = traffic.when(red[0], cloud.at["red-ids"], first)
        print(f"first copy {copied - started:.2f} s after the start, {copied - killed:.2f} s after")
        controller.wait_for_session("one")
        controller.wait_for_session("other")
        assert controller.bridge("s1")["plans"] <= plans
        known = {
            "red-web": red[1:], "red-db": red[:1], "red-ids": red, "red-soc": (),
            "blue-web": blue[1:], "blue-db": blue[:1], "blue-ids": blue,
        }  # fmt: skip
        seen_first = min(n for n in traffic.arrived(red[0], cloud.at["red-db"]) if n > last)
        assert first <= seen_first, "no packet was delivered before it could be copied"
        begin = traffic.now(red[0])
        traffic.wait_until_past(red[0], cloud.at["red-db"], begin + 20)
        for name in ("red-db", "red-ids"):
            assert not traffic.faults(red[0], cloud.at[name], begin + 1, begin + 20)
        for name, streams in known.items():
            assert not traffic.strangers(cloud.at[name], streams), f"strangers at {name}"
            for stream in streams:
                twice = [n for n, k in traffic.arrived(stream, cloud.at[name]).items() if k > 1]
                assert not twice, f"twice at {name}"


def test_a_restarted_ovsdb_server_changes_no_flow_and_no_port(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    """ovs-vswitchd 3.1 forwards nothing in its main thread while it has no database: what its
    sockets cannot hold until then is lost, with and without a controller (see the next test).
    """
    with Traffic(cloud.at.values()) as traffic:
        there, back = streams = cloud.red_streams(traffic)
        ends = {there: cloud.at["red-db"], back: cloud.at["red-web"]}
        for stream, end in ends.items():
            traffic.wait_until_past(stream, end, 5)
        before, plans = flows_of("s1").keys(), controller.bridge("s1")["plans"]
        killed = [traffic.now(stream) for stream in streams]
        open_vswitch.kill("ovsdb-server")
        controller.wait_for_problem("db.sock")
        assert controller.session("one")["status"]["state"] == "active"
        open_vswitch.start_ovsdb_server()
        wait_until_configured()
        for stream, end in ends.items():  # what waited in the sockets has been read
            traffic.wait_until_past(stream, end, traffic.now(stream))
        back_again = [traffic.now(stream) for stream in streams]
        wait_for(lambda: controller.status()["problems"], lambda found: not found)
        traffic.wait_until_past(there, cloud.at["red-ids"], traffic.now(there) + 200)
        traffic.stop()
        for (stream, end), first, last in zip(ends.items(), killed, back_again, strict=True):
            for at in (end, cloud.at["red-ids"]):
                traffic.wait_for(stream, at, stream.last)
                assert not traffic.faults(stream, at, 1, first)
                assert not traffic.faults(stream, at, last + 1, stream.last)
            delivered = traffic.arrived(stream, end)
            assert traffic.arrived(stream, cloud.at["red-ids"]) == delivered
            assert set(delivered.values()) == {1}
            lost = stream.last - len(delivered)
            print(f"{lost} of {last - first} frames were lost while there was no database")
        assert controller.session("one")["status"]["state"] == "active"
        assert (flows_of("s1").keys(), controller.bridge("s1")["plans"]) == (before, plans)


def test_without_its_database_the_userspace_datapath_forwards_nothing_whoever_controls_it(
    lab: Lab,
) -> None:
    """The reason why the test before tolerates losses; a version that forwards makes it fail."""
    lab.add_bridge("s1")
    one, other = lab.add_ports("s1", [1, 2])
    ofctl("add-flow", "s1", "in_port=1,actions=output:2")
    with Traffic([one, other]) as traffic:
        stream = traffic.add(one, WEB, DB)
        traffic.wait_until_past(stream, other, 5)
        open_vswitch.kill("ovsdb-server")
        wait_for(  # it may notice some time later on a busy machine
            lambda: traffic.now(stream) - max(traffic.arrived(stream, other)),
            lambda missing: missing > 3 * FRAMES_PER_S,
        )
        open_vswitch.start_ovsdb_server()
        wait_until_configured()
        traffic.wait_until_past(stream, other, traffic.now(stream))


def wait_until_configured() -> None:
    """Block until ovs-vswitchd has its database again, and has done what it says."""
    vsctl("set", "Open_vSwitch", ".", f"external_ids:asked={time.monotonic()}")


def planned() -> set[tuple[str, str, str]]:
    """The flows of s1 without that of the epoch, which differs from plan to plan."""
    return {key for key in flows_of("s1") if "pkt_mark" not in key[2]}


def test_flows_that_somebody_removes_or_alters_are_repaired(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    def drifts() -> int:
        return controller.log().count("flows had drifted")

    before = planned()
    changes = (
        ("del-flows", "s1", "table=41"),
        ("del-flows", "s1"),
        ("mod-flows", "s1", "table=90,actions=drop"),
        ("mod-flows", "s1", "table=31,actions=drop"),
        ("add-flow", "s1", f"cookie={make_cookie(1, 7):#x},table=90,priority=7,actions=output:7"),
    )
    for number, words in enumerate(changes, 1):
        begun = time.monotonic()
        ofctl(*words)
        wait_for(drifts, partial(operator.eq, number))
        wait_for(planned, lambda seen: seen == before)
        print(f"{' '.join(words)}: repaired after {time.monotonic() - begun:.2f} s")
    assert drifts() == len(changes), controller.log()
    controller.wait_for_session("one")


def test_a_flow_of_somebody_else_is_reported_and_left_alone(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    ofctl("add-flow", "s1", "table=0,priority=50000,in_port=2,actions=output:3")
    bridge = controller.wait_for_bridge("s1", "degraded")
    assert bridge["reasons"] == [
        "1 flows are not ours: they may break isolation; see "
        "`ovs-ofctl -O OpenFlow13 dump-flows s1`"
    ]
    plans = bridge["plans"]
    controller.delete_session("one")
    # its flows go, and then its meters; the flow of somebody else leads to no plan
    wait_for(lambda: controller.bridge("s1")["plans"], (plans + 2).__eq__)
    foreign = ofctl("dump-flows", "s1", "table=0,in_port=2")
    assert "priority=50000,in_port=2 actions=output:3" in foreign
    ofctl("--strict", "del-flows", "s1", "table=0,priority=50000,in_port=2")
    controller.wait_for_bridge("s1")
