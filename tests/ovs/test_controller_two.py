"""Two controllers that know nothing of each other on one bridge: said, and production goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.lab import Lab, vsctl
from tests.ovs.scene import INVENTORY, Scene, build, make_collectors
from tests.ovs.traffic import Stream, Traffic
from tests.ovs.waiting import wait_for

SECOND = ("127.0.0.1:9471", "127.0.0.1:6654")
TIMES = 5
SAID = "flows of bridge 's1' are changed by somebody else again and again"


@pytest.fixture
def scene(lab: Lab) -> Scene:
    return build(lab)


@pytest.fixture
def controller(tmp_path: Path, scene: Scene) -> Iterator[ControllerProcess]:
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
    traffic: Traffic, scene: Scene, red: tuple[Stream, Stream], blue: tuple[Stream, Stream]
) -> None:
    """Every frame that was sent has arrived once where it should, and nothing else."""
    ends = {"red-db": red[0], "red-web": red[1], "blue-db": blue[0], "blue-web": blue[1]}
    for name, stream in ends.items():
        traffic.wait_for(stream, scene.at[name], stream.last)
        assert not traffic.faults(stream, scene.at[name], 1, stream.last)
        assert not traffic.strangers(scene.at[name], [stream])


def test_a_second_controller_on_a_bridge_is_said_and_production_loses_nothing(
    scene: Scene, controller: ControllerProcess, second: ControllerProcess
) -> None:
    with Traffic(scene.at.values()) as traffic:
        red, blue = scene.red_streams(traffic), scene.blue_streams(traffic)
        traffic.wait_until_past(red[0], scene.at["red-ids"], 5)
        second.launch(bridges__recheck_seconds="0.3")
        wait_for(second.is_answering, bool)
        vsctl("set-controller", "s1", TARGET, f"tcp:{SECOND[1]}")
        make_collectors(second)
        second.create_session("blue", "other", ["web"], "ids")
        assert "ovs-vsctl get-controller s1" in controller.wait_for_problem(SAID)
        bridge = wait_for(  # while the other one has just taken it, that is said instead
            lambda: controller.bridge("s1"), lambda seen: SAID in " ".join(seen["reasons"])
        )
        assert bridge["state"] == "degraded"
        second.wait_for_problem(SAID)

        vsctl("set-controller", "s1", TARGET)
        second.end()
        wait_for(lambda: controller.status()["problems"], lambda found: not found)
        controller.wait_for_bridge("s1")
        controller.wait_for_session("one")
        since = traffic.now(red[0])
        traffic.wait_until_past(red[0], scene.at["red-ids"], since + 20)
        traffic.stop()
        assert_production_was_whole(traffic, scene, red, blue)
        assert not traffic.faults(red[0], scene.at["red-ids"], since + 1, since + 20)
        assert not traffic.strangers(scene.at["red-ids"], red), "not even then"
        assert not traffic.strangers(scene.at["blue-ids"], blue)
    print(f"{4 * red[0].last} packets of production, {bridge['plans']} plans so far")


def test_one_tenants_frames_never_reach_the_other_while_two_controllers_disagree(
    scene: Scene, controller: ControllerProcess, second: ControllerProcess
) -> None:
    """Each gives the numbers from 1 on, to sessions of red or of blue; they must never be mixed."""
    for n in range(1, TIMES):
        controller.create_session("red", f"one{n}", ["web"], "ids")
    with Traffic(scene.at.values()) as traffic:
        red, blue = scene.red_streams(traffic), scene.blue_streams(traffic)
        traffic.wait_until_past(red[0], scene.at["red-ids"], 5)
        second.launch(bridges__recheck_seconds="30")
        wait_for(second.is_answering, bool)
        vsctl("set-controller", "s1", TARGET, f"tcp:{SECOND[1]}")
        make_collectors(second)
        second.wait_for_bridge("s1")
        for _ in range(TIMES):
            # the first has set its flows right again, the other one does not know yet
            traffic.wait_until_past(red[0], scene.at["red-ids"], traffic.now(red[0]))
            since = traffic.now(blue[0])
            second.create_session("blue", "other", ["web"], "ids")
            traffic.wait_until_past(blue[0], scene.at["blue-ids"], since)
            second.delete_session("other")
        vsctl("set-controller", "s1", TARGET)
        second.end()
        traffic.stop()
        assert_production_was_whole(traffic, scene, red, blue)
        assert not traffic.strangers(scene.at["red-ids"], red)
        assert not traffic.strangers(scene.at["blue-ids"], blue)
