"""The disk of the state is full or read-only: changes are refused, and everything else goes on."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab, ofctl
from tests.ovs.scene import INVENTORY, Scene, build, make_collectors
from tests.ovs.test_controller_faults import fill, refusal
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

BODY = {"tenant": "red", "collector": "ids", "source": {"kind": "port", "ports": ["db"]}}


@pytest.fixture
def scene(lab: Lab) -> Scene:
    return build(lab)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The state directory: a disk of one megabyte."""
    folder = tmp_path / "state"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def controller(tmp_path: Path, state: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        yield process
        assert "Traceback" not in process.log()


@pytest.fixture
def running(scene: Scene, controller: ControllerProcess) -> ControllerProcess:
    """With a session on s1."""
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    return controller


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def refused(controller: ControllerProcess) -> httpx.Response:
    """The answer to a wish, once there is no room for another one."""
    numbers = iter(range(10_000))

    def ask() -> httpx.Response:
        name = f"more-{next(numbers)}"
        return controller.api.post("/v1/sessions", json={**BODY, "name": name, "enabled": False})

    return wait_for(ask, lambda answer: answer.status_code != 201)


def sessions(controller: ControllerProcess) -> list[str]:
    items = controller.api.get("/v1/sessions?limit=1000").json()["items"]
    return sorted(item["name"] for item in items)


def test_a_full_disk_is_said_and_loses_nothing_and_is_over_when_there_is_room(
    scene: Scene, running: ControllerProcess, state: Path
) -> None:
    watched = [scene.at[name] for name in ("red-web", "red-db", "red-ids")]
    with Traffic(watched) as traffic:
        there, _ = scene.red_streams(traffic)
        traffic.wait_until_past(there, scene.at["red-ids"], 5)
        first = traffic.now(there) + 1
        fill(state / "fill")
        problem = refused(running).json()
        assert problem["status"] == 503
        assert problem["type"] == "urn:cloudtap:problem:store-unavailable"
        assert "cannot grow: the disk is full; make room and try again" in problem["detail"]
        running.wait_for_problem("the disk is full")
        before = sessions(running)
        for answer in (
            running.api.patch("/v1/sessions/one", json={"enabled": False}),
            running.api.delete("/v1/sessions/one"),
        ):
            assert answer.status_code == 503, answer.text
        assert sessions(running) == before
        assert running.session("one")["status"]["state"] == "active"
        assert running.api.get("/readyz").status_code == 503
        (state / "fill").unlink()
        wait_for(lambda: running.status()["problems"], lambda found: not found)
        assert running.api.get("/readyz").status_code == 200
        made = running.create_session("red", "two", ["db"], "soc")
        assert made["status"]["state"] == "active"
        running.end(signal.SIGKILL)
        running.start("s1")
        assert sessions(running) == sorted([*before, "two"])
        running.wait_for_session("one")
        last = traffic.now(there)
        traffic.wait_until_past(there, scene.at["red-ids"], last)
        traffic.stop()
        assert not traffic.faults(there, scene.at["red-ids"], first, last)


def test_a_controller_that_starts_on_a_full_disk_goes_on_as_it_was_and_says_so(
    scene: Scene, running: ControllerProcess, state: Path
) -> None:
    flows = ofctl("--no-stats", "dump-flows", "s1")
    running.end(signal.SIGKILL)
    fill(state / "fill")
    running.start("s1")
    running.wait_for_problem("the disk is full")
    running.wait_for_session("one")
    assert ofctl("--no-stats", "dump-flows", "s1") == flows
    assert refused(running).status_code == 503
    (state / "fill").unlink()
    wait_for(lambda: running.status()["problems"], lambda found: not found)
    assert running.create_session("red", "two", ["db"], "ids")["status"]["state"] == "active"


def test_a_database_that_is_read_only_is_said_and_used_as_it_is_until_it_can_be_written(
    running: ControllerProcess, state: Path
) -> None:
    flows = ofctl("--no-stats", "dump-flows", "s1")
    file = str(state / "state.db")
    running.end(signal.SIGTERM)
    make_read_only(file)
    running.start("s1")
    said = running.wait_for_problem("cannot be written")
    assert file in said and "check the owner and the mount of its folder" in said
    running.wait_for_session("one")
    problem = running.api.post("/v1/sessions", json={**BODY, "name": "two"}).json()
    assert problem["status"] == 503 and "cannot be written" in problem["detail"]
    assert running.api.delete("/v1/sessions/one").status_code == 503
    assert ofctl("--no-stats", "dump-flows", "s1") == flows
    subprocess.run(["umount", "--lazy", file], check=True)
    wait_for(lambda: running.status()["problems"], lambda found: not found)
    assert running.create_session("red", "two", ["db"], "ids")["status"]["state"] == "active"
    assert sessions(running) == ["one", "two"]


def test_a_folder_that_is_read_only_ends_the_start_and_all_flows_stay(
    running: ControllerProcess, state: Path
) -> None:
    flows = ofctl("--no-stats", "dump-flows", "s1")
    running.end(signal.SIGKILL)
    make_read_only(str(state))
    running.launch()
    said = refusal(running)
    assert f"state directory {str(state)!r} cannot be used: Read-only file system" in said
    assert ofctl("--no-stats", "dump-flows", "s1") == flows
    subprocess.run(["umount", str(state)], check=True)
    running.start("s1")
    running.wait_for_session("one")
    assert running.bridge("s1")["plans"] == 0


def make_read_only(path: str) -> None:
    """A file or folder that nobody can write, root included."""
    mount("--bind", path, path)
    mount("-o", "remount,bind,ro", path)
