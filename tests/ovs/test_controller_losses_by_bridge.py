"""Losses of copies by bridge: the counts of each bridge are exact, and add up."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from controller.cli import main
from tests import frames
from tests.ovs.controller_process import API, NOBODY, TARGET, ControllerProcess, Document
from tests.ovs.lab import Lab, vsctl
from tests.ovs.small_cloud import DB, WEB
from tests.ovs.underlay import SENSORS, Underlay
from tests.ovs.waiting import wait_for

INVENTORY = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: red-web, name: web, tenant: red, network: lan, mac: "02:00:00:00:00:01"}
  - {id: red-db, name: db, tenant: red, network: lan, mac: "02:00:00:00:00:02"}
links: [{from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}]
"""
PATH_MTU = 600
FROM_WEB = [
    frames.ethernet(DB, WEB, 0x88B7, bytes(size - 14)) for size in (*[100] * 3, *[1000] * 5)
]
FROM_DB = [frames.ethernet(WEB, DB, 0x88B7, bytes(86))] * 200
LossesByBridge = dict[str, tuple[int, int, dict[str, int]]]
"""By bridge: copies, truncated copies, and copies that were not made."""


class Cloud:
    """web on s1, db on s2, and a sensor far away."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        for number, name in enumerate(("s1", "s2")):
            lab.add_bridge(name, dpid=0x51 + number, controller=TARGET)
        (self.web,) = lab.add_ports("s1", [1], {1: "red-web"})
        (self.db,) = lab.add_ports("s2", [2], {2: "red-db"})
        lab.link("s1", 9, "s2", 9)
        self.underlay = Underlay(lab)

    def exchange(self) -> dict[int, int]:
        """How many frames of each sender reach the sensor."""
        sent = [(self.web, frame) for frame in FROM_WEB] + [(self.db, frame) for frame in FROM_DB]
        got = self.lab.exchange(sent)
        assert Counter(got[self.db]) == Counter(FROM_WEB), "production was hurt"
        assert Counter(got[self.web]) == Counter(FROM_DB), "production was hurt"
        seen = Counter(int.from_bytes(each.frame[6:12]) for each in self.underlay.arrived())
        return dict(seen)


@pytest.fixture
def cloud(lab: Lab) -> Cloud:
    return Cloud(lab)


@pytest.fixture
def controller(cloud: Cloud, tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1", "s2")
        far = {
            "tenant": "red", "name": "far", "delivery": "vxlan", "path_mtu": PATH_MTU,
            "sensors": [{"address": SENSORS[0]}],
        }  # fmt: skip
        assert process.api.post("/v1/collectors", json=far).status_code == 201
        yield process


def make(controller: ControllerProcess, name: str, **more: object) -> None:
    """A session that watches what both send, without a limit."""
    more |= {"direction": "egress", "max_packets": 1_000_000}
    made = controller.create_session("red", name, ["web", "db"], "far", **more)
    assert made["status"]["state"] == "active", made["status"]


def reported(status: Document) -> LossesByBridge:
    """The counts of each bridge; checks that those of the session are their sum."""
    shares: list[Document] = status["bridges"]
    skipped: Counter[str] = Counter()
    for share in shares:
        skipped.update(share["skipped"])
    assert status["skipped"] == skipped
    assert status["truncated"] == sum(share["truncated"] for share in shares)
    for unit in ("packets", "bytes"):
        assert status["copies"][unit] == sum(share["copies"][unit] for share in shares)
    return {s["bridge"]: (s["copies"]["packets"], s["truncated"], s["skipped"]) for s in shares}


def wait_until_reported(
    controller: ControllerProcess, name: str, wanted: LossesByBridge
) -> dict[str, str]:
    """Return the states of the bridges once their counts are these."""
    seen = wait_for(
        lambda: controller.session(name)["status"], lambda status: reported(status) == wanted
    )
    return {share["bridge"]: share["state"] for share in seen["bridges"]}


def metrics(controller: ControllerProcess, name: str) -> LossesByBridge:
    """The same counts from /metrics."""
    text = controller.api.get("/metrics").raise_for_status().text
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for family, labels, value in re.findall(r"^(\w+){(.*)} (.*)$", text, re.MULTILINE):
        of = dict(re.findall(r'(\w+)="(.*?)"', labels))
        if of.get("name") == name and "bridge" in of:
            assert (of["tenant"], of["dpid"][-2:]) == (
                "red",
                {"s1": "51", "s2": "52"}[of["bridge"]],
            )
            found[of["bridge"]][of.get("reason", family)] = int(float(value))
    return {
        bridge: (
            values.pop("cloudtap_session_copied_packets_total"),
            values.pop("cloudtap_copies_truncated_total"),
            {
                why: count
                for why, count in values.items()
                if not why.endswith(("_total", "_created"))
            },
        )
        for bridge, values in found.items()
    }


def shown(name: str) -> list[list[str]]:
    """The table of bridges that `cloudtap session show` ends with."""
    environment = {"CLOUDTAP_API": f"http://{API}", "COLUMNS": "80"}
    result = CliRunner().invoke(main, ["session", "show", name], env=environment)
    lines = [line.split() for line in result.output.splitlines()]
    return lines[lines.index([]) + 1 :]


def test_what_each_bridge_loses_is_told_by_bridge_and_reason(
    cloud: Cloud, controller: ControllerProcess
) -> None:
    make(controller, "whole", oversize="skip", max_rate={"pps": 1})
    whole = cloud.exchange()
    shed = len(FROM_DB) - whole[DB]
    assert shed > 100 and whole[WEB] == 3
    of_whole: LossesByBridge = {"s1": (3, 0, {"mtu": 5}), "s2": (whole[DB], 0, {"rate": shed})}
    wait_until_reported(controller, "whole", of_whole)
    controller.change_session("whole", enabled=False)

    make(controller, "cut")
    assert cloud.exchange() == {WEB: 8, DB: 200}
    of_cut: LossesByBridge = {"s1": (8, 5, {}), "s2": (200, 0, {})}
    assert wait_until_reported(controller, "cut", of_cut) == {"s1": "active", "s2": "active"}

    assert wait_until_reported(controller, "whole", of_whole) == {
        "s1": "inactive",
        "s2": "inactive",
    }
    assert (metrics(controller, "whole"), metrics(controller, "cut")) == (of_whole, of_cut)
    table = shown("whole")
    assert table[0] == ["bridge", "state", "packets", "bytes", "mtu", "rate"]
    assert table[2] == ["s1", "inactive", "3", "300", "5", "0"]
    assert table[3] == ["s2", "inactive", *map(str, (whole[DB], 100 * whole[DB], 0, shed))]


def test_the_sum_holds_when_a_bridge_goes_the_controller_restarts_and_a_workload_moves(
    cloud: Cloud, controller: ControllerProcess
) -> None:
    make(controller, "whole", oversize="skip", max_rate={"pps": 1})
    arrived = cloud.exchange()[DB]
    shed = len(FROM_DB) - arrived
    wanted: LossesByBridge = {"s1": (3, 0, {"mtu": 5}), "s2": (arrived, 0, {"rate": shed})}
    wait_until_reported(controller, "whole", wanted)

    vsctl("set-controller", "s2", NOBODY)
    wait_for(lambda: controller.bridge("s2")["connected"], lambda there: not there)
    assert wait_until_reported(controller, "whole", wanted) == {"s1": "active", "s2": "degraded"}

    controller.end(signal.SIGTERM)
    cloud.lab.remove_markers()
    controller.start()
    controller.wait_until_connected("s1")
    assert wait_until_reported(controller, "whole", wanted)["s2"] == "pending"
    controller.wait_until_connected("s2")
    controller.wait_for_session("whole")  # losses before the restart are not counted again
    assert wait_until_reported(controller, "whole", wanted)["s2"] == "active"
    assert metrics(controller, "whole") == wanted

    cloud.lab.remove_port(cloud.db)
    cloud.db = cloud.lab.add_port("s1", 5, "red-db")
    wait_for(lambda: controller.place("red-db"), lambda place: place == ("s1", 5))
    controller.wait_for_session("whole")
    cloud.exchange()
    everything = 2 * len(FROM_WEB) + len(FROM_DB)
    seen = wait_for(
        lambda: reported(controller.session("whole")["status"]),
        lambda now: now["s1"][0] + sum(now["s1"][2].values()) == everything,
    )
    assert seen["s2"] == wanted["s2"]


def stored(controller: ControllerProcess, dpid: int) -> int:
    """How many copies the state database has of one bridge."""
    with closing(sqlite3.connect(controller.folder / "state" / "state.db")) as connection:
        query = "SELECT sum(before_packets + last_packets) FROM counts WHERE bridge = ?"
        [(found,)] = connection.execute(
            f"{query} AND measure IN ('made', 'tagged')", [f"{dpid:016x}"]
        )
    return int(found or 0)


@pytest.mark.parametrize("is_forgotten", [True, False])
def test_what_a_removed_bridge_has_copied_outlives_a_crash(
    cloud: Cloud, controller: ControllerProcess, is_forgotten: bool
) -> None:
    make(controller, "cut")
    assert cloud.exchange() == {WEB: 8, DB: 200}
    wait_until_reported(controller, "cut", {"s1": (8, 5, {}), "s2": (200, 0, {})})
    cloud.lab.remove_markers()
    vsctl("del-br", "s2")
    wait_for(lambda: controller.bridge("s2")["connected"], lambda there: not there)
    if is_forgotten:
        assert controller.api.delete("/v1/bridges/s2").status_code == 204
        wait_for(
            lambda: " ".join(controller.session("cut")["status"]["reasons"]),
            lambda why: "port 'db' is on no bridge" in why and "secure" not in why,
        )
    else:
        wait_for(lambda: stored(controller, 0x52), lambda copies: copies == 200)
    controller.end(signal.SIGKILL)
    controller.start("s1")
    name = f"{0x52:016x}" if is_forgotten else "s2"
    wait_until_reported(controller, "cut", {"s1": (8, 5, {}), name: (200, 0, {})})
