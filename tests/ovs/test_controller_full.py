"""A bridge whose table is far too small for all sessions serves some, and everything else works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.pipeline.tables import DELIVER
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab, vsctl
from tests.ovs.scene import INVENTORY, Scene, build, make_collectors
from tests.ovs.traffic import Traffic

SERVED = 3
MANY = 75
"""More refusals than a switch was once asked for."""


@pytest.fixture
def scene(lab: Lab) -> Scene:
    return build(lab)


@pytest.fixture
def controller(tmp_path: Path, scene: Scene) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1")
        make_collectors(process)
        yield process
        assert "Traceback" not in process.log()


def test_sessions_that_have_no_room_keep_no_other_change_from_a_bridge(
    scene: Scene, controller: ControllerProcess
) -> None:
    limit = ["--id=@t", "create", "Flow_Table", f"flow_limit={1 + SERVED}"]  # one: no session
    limit += ["overflow_policy=refuse"]
    vsctl("--", *limit, "--", "set", "Bridge", "s1", f"flow_tables:{DELIVER.number}=@t")
    with Traffic(scene.at.values()) as traffic:
        red, blue = scene.red_streams(traffic), scene.blue_streams(traffic)
        states = [
            controller.create_session("red", f"s{n}", ["web"], "ids")["status"]["state"]
            for n in range(SERVED + MANY)
        ]
        assert states == ["active"] * SERVED + ["pending"] * MANY
        said = controller.session(f"s{SERVED}")["status"]["reasons"]
        assert "OFPFMFC_TABLE_FULL" in " ".join(said)

        # its room is wanted by many: all but one are left out again
        assert controller.delete_session("s0") == 204
        controller.wait_for_session(f"s{SERVED}")
        since = traffic.now(red[0])
        traffic.wait_until_past(red[0], scene.at["red-ids"], since + 20)
        copies = traffic.arrived(red[0], scene.at["red-ids"])
        assert {copies[n] for n in range(since + 1, since + 20)} == {SERVED}

        vsctl("clear", "Bridge", "s1", "flow_tables")
        controller.change_session("s1", direction="both")
        for n in range(1, SERVED + MANY):
            controller.wait_for_session(f"s{n}")
        traffic.stop()
        for stream, end in zip((*red, *blue), ("red-db", "red-web", "blue-db", "blue-web"),
                               strict=True):  # fmt: skip
            traffic.wait_for(stream, scene.at[end], stream.last)
            assert not traffic.faults(stream, scene.at[end], 1, stream.last), "production was hurt"
        assert not traffic.strangers(scene.at["red-ids"], red)
