"""What others do on a bridge, to flows and meters: each session that it may concern says so."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flows.plan import count_meters
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import ofctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors
from tests.ovs.waiting import wait_for

FOREIGN = "cookie=0x1234"


@pytest.fixture
def controller(tmp_path: Path, cloud: SmallCloud) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1", bridges__recheck_seconds="0.2")
        make_collectors(process)
        process.create_session("red", "watch-red", ["web"], "ids")
        process.create_session("blue", "watch-blue", ["web"], "ids")
        yield process


def test_sessions_of_the_workload_whose_frames_it_takes_say_so(
    controller: ControllerProcess,
) -> None:
    ofctl("add-flow", "s1", f"{FOREIGN},table=0,priority=60000,in_port=1,actions=output:4")
    controller.wait_for_session("watch-red", "degraded", "not ours")
    controller.wait_for_bridge("s1", "degraded")
    assert controller.session("watch-blue")["status"]["state"] == "active"
    ofctl("del-flows", "s1", f"{FOREIGN}/-1")
    controller.wait_for_session("watch-red")
    controller.wait_for_bridge("s1")


@pytest.mark.parametrize(
    ("flow", "concerned"),
    [
        ("table=0,priority=60000,arp,actions=drop", {"watch-red", "watch-blue"}),
        ("table=0,priority=60000,in_port=4,udp,actions=drop", {"watch-blue"}),
        ("table=0,priority=50,in_port=1,actions=output:4", set[str]()),
        ("table=0,priority=60000,in_port=77,actions=drop", set[str]()),
        ("table=21,priority=60000,actions=output:4", {"watch-red", "watch-blue"}),
        ("table=150,priority=60000,actions=output:4", set[str]()),
    ],
)
def test_which_sessions_are_concerned(
    controller: ControllerProcess, flow: str, concerned: set[str]
) -> None:
    ofctl("add-flow", "s1", f"{FOREIGN},{flow}")
    controller.wait_for_bridge("s1", "degraded")
    states = {name: controller.session(name)["status"] for name in ("watch-red", "watch-blue")}
    seen = {name for name, status in states.items() if status["state"] == "degraded"}
    assert seen == concerned, states


def test_meters_that_somebody_else_removes_are_said_to_have_lost_counts(
    controller: ControllerProcess,
) -> None:
    red = meters_of_session(controller, "watch-red")
    ofctl("del-meter", "s1", f"meter={red[0]}")
    controller.wait_for_session("watch-red", "degraded", "removed or changed meters of bridge s1")
    assert controller.session("watch-blue")["status"]["state"] == "active"
    wait_for(lambda: meters_of_session(controller, "watch-red"), lambda seen: seen == red)

    ofctl("del-meters", "s1")
    controller.wait_for_session("watch-blue", "degraded", "some of the copies")
    assert "meters had been altered" in controller.log()
    wait_for(lambda: meters_of_session(controller, "watch-red"), lambda seen: seen == red)


def meters_of_session(controller: ControllerProcess, name: str) -> list[int]:
    """The numbers of the meters on s1 that count the copies of a session."""
    with closing(sqlite3.connect(controller.folder / "state" / "state.db")) as connection:
        query = "SELECT number FROM numbers WHERE kind = 'session' AND key = ?"
        [(number,)] = connection.execute(query, [controller.session(name)["id"]])
    there = {int(found) for found in re.findall(r"meter=(\d+)", ofctl("dump-meters", "s1"))}
    return sorted(there & set(count_meters(number)))
