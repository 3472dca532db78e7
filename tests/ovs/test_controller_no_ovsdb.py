"""The Open vSwitch database is unreachable when the controller starts, and becomes reachable."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ovs import open_vswitch
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud, build_cloud, make_collectors
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

REMOTE = "tcp:127.0.0.1:6640"
"""Nothing listens there before ``let_in``."""


@pytest.fixture
def cloud(lab: Lab) -> Iterator[SmallCloud]:
    yield build_cloud(lab)
    if not Path(open_vswitch.SOCKET).exists():  # a test has failed
        open_vswitch.start_ovsdb_server()
    vsctl("del-manager")


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        yield process
        assert "Traceback" not in process.log()


def let_in() -> None:
    """Have ovsdb-server listen for remote controllers."""
    vsctl("set-manager", f"p{REMOTE.replace('127.0.0.1:6640', '6640:127.0.0.1')}")


def test_without_the_database_what_was_known_goes_on_and_wishes_are_served(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    watched = [cloud.at[name] for name in ("red-web", "red-db", "red-ids", "red-soc")]
    with Traffic(watched) as traffic:
        there, _ = cloud.red_streams(traffic)
        traffic.wait_until_past(there, cloud.at["red-ids"], 5)
        first = traffic.now(there) + 1
        controller.end(signal.SIGKILL)
        controller.start("s1", ovsdb__remotes=REMOTE)
        assert "see whether ovsdb-server runs" in controller.wait_for_problem(REMOTE)
        assert controller.bridge("s1")["plans"] == 0, "it has what it should have"
        controller.wait_for_session("one")
        assert controller.place("red-web") == ("s1", 1), "as it was remembered"
        controller.create_session("red", "two", ["db"], "soc")
        controller.wait_for_session("two")
        begun = traffic.now(there) + 1
        traffic.wait_until_past(there, cloud.at["red-soc"], begun)
        plans = controller.bridge("s1")["plans"]
        let_in()
        wait_for(lambda: controller.status()["problems"], lambda found: not found)
        last = traffic.now(there)
        for tap in ("red-ids", "red-soc"):
            traffic.wait_until_past(there, cloud.at[tap], last)
        traffic.stop()
        assert controller.bridge("s1")["plans"] == plans, "the database confirms what was known"
        for name in ("one", "two"):
            assert controller.session(name)["status"]["state"] == "active"
        assert not traffic.faults(there, cloud.at["red-ids"], first, last)
        assert not traffic.faults(there, cloud.at["red-soc"], begun, last)


def test_a_first_start_without_the_database_places_ports_when_it_comes(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    vsctl("set-fail-mode", "s1", "standalone")
    controller.start("s1", ovsdb__remotes=REMOTE)
    assert "see whether ovsdb-server runs" in controller.wait_for_problem(REMOTE)
    make_collectors(controller)
    made = controller.create_session("red", "one", ["web"], "ids")
    assert made["status"]["state"] == "pending"
    assert "web" in " ".join(made["status"]["reasons"]), "its placement is unknown"
    assert controller.place("red-web") is None
    assert "in_port" not in ofctl("dump-flows", "s1", "table=90")
    let_in()
    controller.wait_for_session("one")
    assert controller.place("red-web") == ("s1", 1)
    wait_for(lambda: controller.status()["problems"], lambda found: not found)
    assert vsctl("get-fail-mode", "s1").strip() == "secure", "it was connected before the database"


def test_open_vswitch_that_starts_after_the_controller_is_found_although_nobody_named_it(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    for daemon in ("ovs-vswitchd", "ovsdb-server"):
        open_vswitch.kill(daemon)
    Path(open_vswitch.SOCKET).unlink()  # as after a boot
    controller.start()
    assert controller.status()["problems"] == [], "it need not be on this machine"
    make_collectors(controller)
    made = controller.create_session("red", "one", ["web"], "ids")
    assert made["status"]["state"] == "pending"
    open_vswitch.start_ovsdb_server()
    open_vswitch.start_vswitchd()
    controller.wait_until_connected("s1")
    controller.wait_for_session("one")
    assert controller.place("red-web") == ("s1", 1)
    open_vswitch.kill("ovsdb-server")
    Path(open_vswitch.SOCKET).unlink()
    assert "db.sock" in controller.wait_for_problem("see whether ovsdb-server runs")
    assert controller.session("one")["status"]["state"] == "active"
    open_vswitch.start_ovsdb_server()
    wait_for(lambda: controller.status()["problems"], lambda found: not found)


def test_a_database_that_hangs_is_said_by_the_system_and_by_sessions_until_it_answers(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    server = int((open_vswitch.RUN / "ovsdb-server.pid").read_text())
    unseen = "unknown: database unix:/run/openvswitch/db.sock does not answer"
    os.kill(server, signal.SIGSTOP)
    try:
        controller.wait_for_session("one", "active", unseen, seconds=40)
        assert "has completed no message" in " ".join(controller.status()["problems"])
        status = controller.create_session("red", "two", ["db"], "soc")["status"]
        assert unseen in " ".join(status["reasons"]), status
        assert unseen in " ".join(controller.bridge("s1")["reasons"])
    finally:
        os.kill(server, signal.SIGCONT)
    wait_for(lambda: controller.status()["problems"], lambda found: not found, 40)
    for name in ("one", "two"):
        wait_for(
            lambda name=name: controller.session(name)["status"],  # type: ignore[misc]
            lambda status: (status["state"], status["reasons"]) == ("active", []),
        )
