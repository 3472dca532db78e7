"""Two independent controllers on one bridge: it is reported, and production keeps working."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ovs.controller_process import START_S, TARGET, ControllerProcess
from tests.ovs.lab import vsctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors
from tests.ovs.traffic import Stream, Traffic
from tests.ovs.waiting import wait_for

SECOND = ("127.0.0.1:9471", "127.0.0.1:6654")
TIMES = 5
METERS_SAID_S = 120.0
"""That somebody else has changed meters is said for a minute, see docs/how-to/monitor.md."""
SAID = "flows of bridge 's1' are changed by somebody else again and again"


@pytest.fixture
def controller(tmp_path: Path, cloud: SmallCloud) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1", bridges__recheck_seconds="0.5")
        make_collectors(process)
        process.create_session("red", "one", ["web"], "ids")
        yield process
        assert "Traceback" not in process.log()


@pytest.fixture
def second(tmp_path: Path) -> Iterator[ControllerProcess]:
    folder = tmp_path / "second"
    folder.mkdir()
    with ControllerProcess(folder, INVENTORY, addresses=SECOND) as process:
        yield process


def assert_production_was_whole(
    traffic: Traffic, cloud: SmallCloud, red: tuple[Stream, Stream], blue: tuple[Stream, Stream]
) -> None:
    """Check that every frame has arrived once where it should, and no other."""
    ends = {"red-db": red[0], "red-web": red[1], "blue-db": blue[0], "blue-web": blue[1]}
    for name, stream in ends.items():
        traffic.wait_for(stream, cloud.at[name], stream.last)
        assert not traffic.faults(stream, cloud.at[name], 1, stream.last)
        assert not traffic.strangers(cloud.at[name], [stream])


def test_a_second_controller_on_a_bridge_is_said_and_production_loses_nothing(
    cloud: SmallCloud, controller: ControllerProcess, second: ControllerProcess
) -> None:
    with Traffic(cloud.at.values()) as traffic:
        red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
        traffic.wait_until_past(red[0], cloud.at["red-ids"], 5)
        second.launch(bridges__recheck_seconds="0.3")
        wait_for(second.is_answering, bool, START_S)
        vsctl("set-controller", "s1", TARGET, f"tcp:{SECOND[1]}")
        make_collectors(second)
        second.create_session("blue", "other", ["web"], "ids")
        assert "ovs-vsctl get-controller s1" in controller.wait_for_problem(SAID)
        bridge = wait_for(  # while the other one has just written, that is reported instead
            lambda: controller.bridge("s1"), lambda seen: SAID in " ".join(seen["reasons"])
        )
        assert bridge["state"] == "degraded"
        second.wait_for_problem(SAID)

        vsctl("set-controller", "s1", TARGET)
        second.end()
        wait_for(lambda: controller.status()["problems"], lambda found: not found)
        controller.wait_for_bridge("s1")
        controller.wait_for_session("one", seconds=METERS_SAID_S)
        since = traffic.now(red[0])
        traffic.wait_until_past(red[0], cloud.at["red-ids"], since + 20)
        traffic.stop()
        assert_production_was_whole(traffic, cloud, red, blue)
        assert not traffic.faults(red[0], cloud.at["red-ids"], since + 1, since + 20)
        assert not traffic.strangers(cloud.at["red-ids"], red), "not even then"
        assert not traffic.strangers(cloud.at["blue-ids"], blue)
    print(f"{4 * red[0].last} packets of production, {bridge['plans']} plans so far")


def test_one_tenants_frames_never_reach_the_other_while_two_controllers_disagree(
    cloud: SmallCloud, controller: ControllerProcess, second: ControllerProcess
) -> None:
    """Both allocate numbers from 1, one for red and one for blue; they must not be confused."""
    for n in range(1, TIMES):
        controller.create_session("red", f"one{n}", ["web"], "ids")
    with Traffic(cloud.at.values()) as traffic:
        red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
        traffic.wait_until_past(red[0], cloud.at["red-ids"], 5)
        second.launch(bridges__recheck_seconds="30")
        wait_for(second.is_answering, bool, START_S)
        vsctl("set-controller", "s1", TARGET, f"tcp:{SECOND[1]}")
        make_collectors(second)
        second.wait_for_bridge("s1")
        for _ in range(TIMES):
            # the first has repaired its flows; the other has not detected it yet
            traffic.wait_until_past(red[0], cloud.at["red-ids"], traffic.now(red[0]))
            since = traffic.now(blue[0])
            second.create_session("blue", "other", ["web"], "ids")
            traffic.wait_until_past(blue[0], cloud.at["blue-ids"], since)
            second.delete_session("other")
        vsctl("set-controller", "s1", TARGET)
        second.end()
        traffic.stop()
        assert_production_was_whole(traffic, cloud, red, blue)
        assert not traffic.strangers(cloud.at["red-ids"], red)
        assert not traffic.strangers(cloud.at["blue-ids"], blue)
