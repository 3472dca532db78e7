"""A restart of the controller under traffic loses and duplicates nothing."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from controller.launch import INVENTORY_KEPT
from tests.ovs.controller_process import START_S, ControllerProcess
from tests.ovs.lab import ofctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

MORE = """\
  - {id: red-new, name: new, tenant: red, network: lan, mac: "02:00:00:00:00:09"}
"""
LATE_S = 2.0
"""So much later than they are waited for, in seconds."""
FLOW = re.compile(r"cookie=(\S+), duration=([\d.]+)s, table=(\d+), n_packets=(\d+), [^ ]* (.*)")


@pytest.fixture
def runtime() -> str:
    return "ryu"


@pytest.fixture
def controller(runtime: str, tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY, runtime) as process:
        yield process


def flows_of(bridge: str) -> dict[tuple[str, str, str], tuple[float, int]]:
    """Age and packet count of each flow, by cookie, table and the rest of its text."""
    found = {}
    for line in ofctl("dump-flows", bridge).splitlines():
        if match := FLOW.search(line):
            cookie, age, table, packets, rest = match.groups()
            found[cookie, table, rest] = (float(age), int(packets))
    return found


@pytest.mark.parametrize("runtime", ["ryu", "os-ken"])
def test_restarts_lose_and_repeat_nothing_and_send_no_flow(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    controller.create_session("red", "both-ends", ["web", "db"], "soc")
    watched = [cloud.at[name] for name in ("red-web", "red-db", "red-ids", "red-soc", "blue-ids")]
    with Traffic(watched) as traffic:
        there, back = cloud.red_streams(traffic)
        cloud.blue_streams(traffic)
        traffic.wait_until_past(there, cloud.at["red-ids"], 5)
        for name in ("one", "both-ends"):
            controller.wait_for_session(name)
        before = flows_of("s1")
        begun = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGKILL):
            controller.end(number)
            left = time.monotonic()
            controller.start("s1")
            assert controller.bridge("s1")["plans"] == 0, controller.log()
            print(f"{number.name}: verified again {time.monotonic() - left:.2f} s after the end")
        for name in ("one", "both-ends"):
            controller.wait_for_session(name)
        controller.end(signal.SIGTERM)
        controller.inventory.write_text(INVENTORY + MORE)
        controller.start("s1")
        traffic.wait_until_past(back, cloud.at["red-soc"], traffic.now(back))
        traffic.stop()
        ends = {"red-db": (there,), "red-web": (back,)}
        ends |= dict.fromkeys(("red-ids", "red-soc"), (there, back))
        for name, streams in ends.items():
            at = cloud.at[name]
            for stream in streams:
                traffic.wait_for(stream, at, stream.last)
                assert not traffic.faults(stream, at, 1, stream.last)
            assert not traffic.strangers(at, streams)
        assert not traffic.strangers(cloud.at["blue-ids"], ())
    print(f"{there.last + back.last} packets, twice as many copies: nothing lost or repeated")
    passed = time.monotonic() - begun
    after = flows_of("s1")
    assert after.keys() == before.keys(), "a port without a place changes no flow"
    for key, (age, packets) in before.items():
        assert after[key][0] >= age + passed - 2, f"{key} was written again"
        assert after[key][1] >= packets, f"{key} counts from 0 again"


def process_that_asks_databases(parent: int) -> int:
    """The process id of a child of the controller, once there is one; 0 before."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
            if b"controller.databases.main" in command:
                status = (folder / "status").read_text()
                if f"PPid:\t{parent}\n" in status:
                    return int(folder.name)
    return 0


def test_a_restart_changes_no_flow_although_databases_are_asked_late(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    """As on a machine that is so busy that the process that asks them is up after seconds."""
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    controller.wait_for_session("one")
    before = flows_of("s1").keys()
    controller.end()
    process = controller.launch(ovsdb__connect_timeout="0.2")
    child = wait_for(partial(process_that_asks_databases, process.pid), bool, START_S)
    os.kill(child, signal.SIGSTOP)
    try:
        controller.wait_until_connected("s1")
        late = time.monotonic() + LATE_S
        wait_for(time.monotonic, late.__lt__)
        assert controller.bridge("s1")["state"] == "pending"
    finally:
        os.kill(child, signal.SIGCONT)
    controller.wait_for_bridge("s1")
    controller.wait_for_session("one")
    assert controller.bridge("s1")["plans"] == 0, controller.log()
    assert flows_of("s1").keys() == before


def test_without_a_valid_inventory_the_one_that_was_in_force_goes_on_after_a_restart(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    controller.wait_for_session("one")
    before = flows_of("s1").keys()
    for broken in (None, "tenants: [red\n"):
        controller.end()
        if broken is None:
            controller.inventory.unlink()
        else:
            controller.inventory.write_text(broken)
        controller.start("s1")
        controller.wait_for_problem("the inventory that was read last stays in force")
        assert controller.wait_for_session("one")
        assert flows_of("s1").keys() == before
    assert controller.delete_session("one") == 204


def test_without_an_inventory_existing_flows_stay_as_they_are(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    controller.wait_for_session("one")
    before = flows_of("s1").keys()
    for broken in (None, "tenants: [red\n", "tenants: [red]\nports: [{id: x, tenant: green}]\n"):
        controller.end()
        (controller.folder / "state" / INVENTORY_KEPT).unlink(missing_ok=True)
        if broken is None:
            controller.inventory.unlink()
        else:
            controller.inventory.write_text(broken)
        controller.start()
        controller.wait_for_problem(str(controller.inventory))
        controller.wait_until_connected("s1")
        assert controller.session("one")["status"]["state"] == "pending"
        assert flows_of("s1").keys() == before
    assert controller.delete_session("one") == 202
    assert flows_of("s1").keys() == before
    controller.inventory.write_text(INVENTORY)
    controller.wait_for_bridge("s1")
    wait_for(lambda: controller.session("one"), lambda seen: not seen)
    assert "Traceback" not in controller.log()
