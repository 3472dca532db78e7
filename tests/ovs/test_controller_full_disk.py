"""A full or read-only state directory: changes are refused, and everything else keeps working."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import ofctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud
from tests.ovs.test_controller_faults import fill, refusal
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

BODY = {"tenant": "red", "collector": "ids", "source": {"kind": "port", "ports": ["db"]}}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The state directory on a file system of one megabyte."""
    folder = tmp_path / "state"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def controller(tmp_path: Path, state: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        yield process
        assert "Traceback" not in process.log()


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def refused(controller: ControllerProcess) -> httpx.Response:
    """The response to a request, once the file system is full."""
    numbers = iter(range(10_000))

    def ask() -> httpx.Response:
        name = f"more-{next(numbers)}"
        return controller.api.post("/v1/sessions", json={**BODY, "name": name, "enabled": False})

    return wait_for(ask, lambda answer: answer.status_code != 201)


def sessions(controller: ControllerProcess) -> list[str]:
    items = controller.api.get("/v1/sessions?limit=1000").json()["items"]
    return sorted(item["name"] for item in items)


def test_a_full_disk_is_said_and_loses_nothing_and_is_over_when_there_is_room(
    cloud: SmallCloud, running: ControllerProcess, state: Path
) -> None:
    watched = [cloud.at[name] for name in ("red-web", "red-db", "red-ids")]
    with Traffic(watched) as traffic:
        there, _ = cloud.red_streams(traffic)
        traffic.wait_until_past(there, cloud.at["red-ids"], 5)
        first = traffic.now(there) + 1
        fill(state / "fill")
        problem = refused(running).json()
        assert problem["status"] == 503
        assert problem["type"] == "urn:cloudtap:problem:store-unavailable"
        assert "cannot grow: the disk is full; make room and try again" in problem["detail"]
        running.wait_for_problem("the disk is full")
        before = sessions(running)
        answer = running.api.patch("/v1/sessions/one", json={"direction": "egress"})
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
        traffic.wait_until_past(there, cloud.at["red-ids"], last)
        traffic.stop()
        assert not traffic.faults(there, cloud.at["red-ids"], first, last)


def copies_to(port: int) -> list[str]:
    """The flows of s1 that send copies to a tap port."""
    flows = ofctl("--no-stats", "dump-flows", "s1").splitlines()
    output = re.compile(rf'output:(?:{port}|"s1-eth{port}")(?:,|$)')
    return [flow for flow in flows if output.search(flow)]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_on_a_full_disk_taps_are_switched_off_at_once_and_stay_off_over_a_restart(
    cloud: SmallCloud, running: ControllerProcess, state: Path, end: signal.Signals
) -> None:
    running.create_session("red", "two", ["db"], "soc")
    running.create_session("blue", "three", ["web"], "ids", max_packets=10)
    fill(state / "fill")
    refused(running)
    running.wait_for_problem("the disk is full")
    assert copies_to(5) and copies_to(6) and copies_to(7)
    answer = running.api.delete("/v1/sessions/one")
    assert answer.status_code == 202, answer.text
    assert "deleted: its copies have ended" in answer.json()["status"]["reasons"][0]
    assert not copies_to(5)
    answer = running.api.patch("/v1/sessions/two", json={"enabled": False})
    assert answer.status_code == 200, answer.text
    assert "the disk is full" in answer.json()["status"]["reasons"][-1]
    assert not copies_to(6)
    with Traffic([cloud.at[name] for name in ("blue-web", "blue-db")]) as traffic:
        there, _ = cloud.blue_streams(traffic)
        traffic.wait_until_past(there, cloud.at["blue-db"], 20)
        running.wait_for_session("three", "stopped", "limit of 10 packets")
        wait_for(lambda: copies_to(7), lambda found: not found)
        traffic.stop()
    running.wait_for_problem("a restart does not begin them again")
    assert running.api.patch("/v1/sessions/two", json={"enabled": True}).status_code == 503
    running.end(end)
    running.start("s1")
    assert not copies_to(5) and not copies_to(6) and not copies_to(7)
    if end is signal.SIGKILL:  # an orderly end frees the space of the write-ahead log
        running.wait_for_problem("the disk is full")
    assert not running.session("two")["enabled"]
    assert running.session("three")["status"]["state"] == "stopped"
    (state / "fill").unlink()
    wait_for(lambda: running.status()["problems"], lambda found: not found)
    wait_for(lambda: sessions(running), lambda found: "one" not in found)
    assert running.api.patch("/v1/sessions/two", json={"enabled": True}).status_code == 200
    assert copies_to(6)
    entries = running.api.get("/v1/audit?kind=session").json()["items"]
    done = [(e["what"], e["name"]) for e in entries if e["what"] != "removed"]
    assert done[:4] == [
        ("changed", "two"), ("stopped", "three"), ("changed", "two"), ("deleted", "one"),
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["a flipped bit", "emptied"])
def test_what_a_damaged_journal_may_have_held_makes_no_copies(
    running: ControllerProcess, state: Path, damage: str
) -> None:
    running.create_session("red", "two", ["db"], "soc")
    fill(state / "fill")
    refused(running)
    running.wait_for_problem("the disk is full")
    assert running.api.delete("/v1/sessions/two").status_code == 202
    running.end(signal.SIGKILL)
    journal = state / "switched-off"
    content = bytearray(journal.read_bytes())
    content[content.index(b"deleted")] ^= 1
    journal.write_bytes(content if damage == "a flipped bit" else b"")
    (state / "fill").unlink()
    running.start("s1")
    running.wait_for_problem("cloudtap session enable NAME")
    running.wait_for_session("two", "stopped", "the journal of that is damaged")
    one = "active" if damage == "a flipped bit" else "stopped"
    running.wait_for_session("one", one)
    assert not copies_to(6) and bool(copies_to(5)) == (one == "active")
    enable = running.api.patch("/v1/sessions/two", json={"enabled": True})
    assert enable.status_code == 200 and copies_to(6)
    (state / "switched-off.damaged").unlink()
    wait_for(lambda: running.status()["problems"], lambda found: not found)


def test_a_state_folder_that_is_removed_is_said_and_nothing_is_accepted_into_it(
    running: ControllerProcess, state: Path
) -> None:
    for name in ("state.db", "state.db-wal", "state.db-shm", "lock"):
        (state / name).unlink()
    running.wait_for_problem("was removed or replaced while the controller runs")
    answer = running.api.post("/v1/sessions", json={**BODY, "name": "two"})
    assert answer.status_code == 503 and "was removed or replaced" in answer.json()["detail"]
    assert running.api.get("/readyz").status_code == 503
    assert not (state / "state.db").exists(), "no new one takes its place"
    assert running.delete_session("one") == 202
    assert not copies_to(5)


@pytest.mark.parametrize("damage", ["empty", "flipped", "row"])
def test_a_damaged_database_ends_the_start_with_a_sentence_and_all_flows_stay(
    running: ControllerProcess, state: Path, damage: str
) -> None:
    flows = ofctl("--no-stats", "dump-flows", "s1")
    running.end()
    file = state / "state.db"
    good = file.read_bytes()
    if damage == "row":
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE bridges SET dpid = 'xyz'")
        connection.close()
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        file.write_bytes(good[:4096] + b"\xa5" * 20_000 + good[24_096:])
    bad = file.read_bytes()
    running.launch()
    assert "is damaged" in refusal(running)
    assert file.read_bytes() == bad
    assert ofctl("--no-stats", "dump-flows", "s1") == flows
    file.write_bytes(good)
    running.start("s1")
    assert running.wait_for_session("one")


@pytest.mark.parametrize("runtime", ["ryu", "os-ken"])
def test_a_state_folder_that_others_may_open_ends_the_start_with_what_to_type(
    tmp_path: Path, runtime: str
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    with ControllerProcess(tmp_path, INVENTORY, runtime) as process:
        process.launch()
        assert f"type `chmod go= {tmp_path / 'state'}`" in refusal(process)
        (tmp_path / "state").chmod(0o700)
        (tmp_path / "state" / "lock").symlink_to(tmp_path / "inventory.yaml")
        process.launch()
        assert process.wait_for_end() == 1
        assert "lock is a symbolic link" in process.log()
        assert (tmp_path / "inventory.yaml").read_text() == INVENTORY
        assert "Traceback" not in process.log()


def test_a_controller_that_starts_on_a_full_disk_goes_on_as_it_was_and_says_so(
    cloud: SmallCloud, running: ControllerProcess, state: Path
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
    output = running.wait_for_problem("cannot be written")
    assert file in output and "check the owner and the mount of its folder" in output
    running.wait_for_session("one")
    problem = running.api.post("/v1/sessions", json={**BODY, "name": "two"}).json()
    assert problem["status"] == 503 and "cannot be written" in problem["detail"]
    assert ofctl("--no-stats", "dump-flows", "s1") == flows
    answer = running.api.delete("/v1/sessions/one")
    assert answer.status_code == 202, answer.text
    assert "cannot be written" in answer.json()["status"]["reasons"][0]
    assert not copies_to(5), "its copies have ended"
    subprocess.run(["umount", "--lazy", file], check=True)
    wait_for(lambda: running.status()["problems"], lambda found: not found)
    assert running.create_session("red", "two", ["db"], "ids")["status"]["state"] == "active"
    wait_for(lambda: sessions(running), lambda found: found == ["two"])


def test_a_folder_that_is_read_only_ends_the_start_and_all_flows_stay(
    running: ControllerProcess, state: Path
) -> None:
    flows = ofctl("--no-stats", "dump-flows", "s1")
    running.end(signal.SIGKILL)
    make_read_only(str(state))
    running.launch()
    output = refusal(running)
    assert f"state directory {str(state)!r} cannot be used: Read-only file system" in output
    assert ofctl("--no-stats", "dump-flows", "s1") == flows
    subprocess.run(["umount", str(state)], check=True)
    running.start("s1")
    running.wait_for_session("one")
    assert running.bridge("s1")["plans"] == 0


def make_read_only(path: str) -> None:
    """Make a file or folder read-only, for root too."""
    mount("--bind", path, path)
    mount("-o", "remount,bind,ro", path)
