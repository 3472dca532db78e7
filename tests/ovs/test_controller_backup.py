"""Backup of a running controller, restore on a stopped one: what was deleted stays deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controller.cli import main
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import ofctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors
from tests.ovs.waiting import wait_for


@pytest.fixture(params=["ryu", "os-ken"])
def running(
    cloud: SmallCloud, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY, request.param) as process:
        process.start("s1")
        make_collectors(process)
        yield process
        assert "Traceback" not in process.log()


def cloudtap(controller: ControllerProcess, *arguments: str) -> Result:
    state = {"CLOUDTAP_STATE__DIRECTORY": str(controller.folder / "state")}
    return CliRunner().invoke(main, arguments, env=state)


def flows_of(bridge: str) -> set[str]:
    """Cookie and table of every flow but that of the epoch, which differs from plan to plan."""
    lines = ofctl("--no-stats", "dump-flows", bridge).splitlines()
    lines = [line for line in lines if "cookie=" in line and "pkt_mark" not in line]
    return {line.partition(", priority")[0] for line in lines}


def names(controller: ControllerProcess) -> list[str]:
    return sorted(item["name"] for item in controller.api.get("/v1/sessions").json()["items"])


def test_a_backup_of_a_running_controller_is_restored_and_programmed(
    running: ControllerProcess, tmp_path: Path
) -> None:
    running.create_session("red", "gone", ["web"], "ids")
    running.create_session("red", "kept", ["db"], "soc")
    assert running.delete_session("gone") == 204
    kept = flows_of("s1")
    file = str(tmp_path / "b.db")
    done = cloudtap(running, "backup", file)
    assert done.exit_code == 0 and "with 1 sessions" in done.output, done.output
    running.create_session("red", "later", ["web"], "ids")
    refused = cloudtap(running, "restore", file)
    assert refused.exit_code == 1 and "another controller (pid" in refused.output
    assert names(running) == ["kept", "later"]
    running.end()
    assert cloudtap(running, "restore", file).exit_code == 0
    running.start("s1")
    assert names(running) == ["kept"]
    assert running.wait_for_session("kept")
    wait_for(lambda: flows_of("s1"), lambda flows: flows == kept)
    assert not running.status()["problems"]
