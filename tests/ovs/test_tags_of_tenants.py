"""What one tenant had on a link is another's now, and the bridge that sends there is away."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import frames
from tests.ovs.controller_process import NOBODY, TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.waiting import wait_for

A, B, FAR = 0x020000000001, 0x020000000002, 0x020000000003
BRIDGES = ("s1", "s2", "s3")
PORTS = {"s1": {1: "a", 2: "b", 3: "new"}, "s2": {1: "near", 5: "soc"}, "s3": {1: "far"}}
TENANTS = "tenants: [red, blue]\n"
NETWORKS = """\
networks: [{name: lan, tenant: red}, {name: lan, tenant: blue}]
ports:
"""
LINKS = """\
links:
  - {from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}
  - {from: {bridge: s2, interface: s2-eth8}, to: {bridge: s3, interface: s3-eth8}}
"""
WORKLOADS = """\
  - {id: a, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: s1-eth1}
  - {id: b, tenant: red, network: lan, mac: "02:00:00:00:00:02", interface: s1-eth2}
  - {id: far, tenant: blue, network: lan, mac: "02:00:00:00:00:03", interface: s3-eth1}
"""
TAP = "  - {{id: soc, tenant: {}, kind: tap, interface: s2-eth5}}\n"
MANY = 20
RED = frames.ethernet(B, A, 0x88B7, b"red" * 30)
BLUE = frames.ethernet(B, FAR, 0x88B7, b"blue" * 30)


def tap_of(tenant: str) -> str:
    """An inventory in which the tap port is of this tenant."""
    return TENANTS + NETWORKS + WORKLOADS + TAP.format(tenant) + LINKS


@pytest.fixture
def at(lab: Lab) -> dict[str, Endpoint]:
    found: dict[str, Endpoint] = {}
    for dpid, name in enumerate(BRIDGES, 1):
        lab.add_bridge(name, dpid=dpid, controller=TARGET)
        ports = PORTS[name]
        found |= dict(zip(ports.values(), lab.add_ports(name, ports), strict=True))
    lab.link("s1", 9, "s2", 9)
    lab.link("s2", 8, "s3", 8)
    return found


@pytest.fixture
def controller(tmp_path: Path, at: dict[str, Endpoint]) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, tap_of("red")) as process:
        yield process


def leave(controller: ControllerProcess, bridge: str) -> None:
    """Have a bridge call nobody; it goes on with its flows."""
    vsctl("set-controller", bridge, NOBODY)
    wait_for(partial(controller.bridge, bridge), lambda seen: not seen.get("connected"))


@pytest.mark.parametrize("tag", [None, 7])
def test_copies_of_a_bridge_that_is_away_do_not_reach_a_tap_port_that_is_anothers_now(
    lab: Lab, at: dict[str, Endpoint], controller: ControllerProcess, tag: int | None
) -> None:
    controller.start(*BRIDGES)
    controller.create_collector("red", "red-soc", "soc")
    controller.change_collector("red-soc", tenant_tag=tag)
    controller.create_session("red", "one", ["a"], "red-soc", direction="egress")
    controller.wait_for_session("one")
    got = lab.exchange([(at["a"], RED)] * MANY)
    assert len(got[at["soc"]]) == MANY, "while the tap port is red's"

    leave(controller, "s1")
    controller.inventory.write_text(tap_of("blue"))
    controller.wait_for_session("one", "error", "belongs to tenant")
    controller.create_collector("blue", "blue-soc", "soc")
    controller.change_collector("blue-soc", tenant_tag=tag)
    controller.create_session("blue", "two", ["far"], "blue-soc", direction="egress")
    controller.wait_for_session("two")
    got = lab.exchange([(at["a"], RED), (at["far"], BLUE)] * MANY)
    assert got[at["b"]] == [RED] * MANY, "production goes on"
    arrived = got[at["soc"]]
    assert sum(RED[14:] in frame for frame in arrived) == 0, "red's frames at blue's tap port"
    assert sum(BLUE[14:] in frame for frame in arrived) == MANY

    lab.remove_markers()
    controller.wait_until_connected("s1")
    controller.wait_for_bridge("s1")
    got = lab.exchange([(at["a"], RED), (at["far"], BLUE)] * MANY)
    assert got[at["b"]] == [RED] * MANY and len(got[at["soc"]]) == MANY


def make_old(state: Path) -> None:
    """Have the numbers kept as by a version that did not know whose they are."""
    with sqlite3.connect(state / "state.db") as connection:
        connection.execute(
            "UPDATE numbers SET key = substr(key, instr(key, '/') + 1) WHERE key LIKE '%/%'"
        )
        connection.execute("UPDATE schema SET version = 8")
    connection.close()


def flows_of(bridge: str) -> set[str]:
    return set(ofctl("--no-stats", "dump-flows", bridge).splitlines())


def test_an_upgrade_leaves_numbers_with_who_has_them_and_gives_them_to_nobody_else(
    lab: Lab, at: dict[str, Endpoint], controller: ControllerProcess, tmp_path: Path
) -> None:
    controller.start(*BRIDGES)
    controller.create_collector("red", "red-soc", "soc")
    controller.create_session("red", "one", ["a"], "red-soc", direction="egress")
    controller.wait_for_session("one")
    before = {bridge: flows_of(bridge) for bridge in BRIDGES}
    assert controller.end() == 0
    make_old(tmp_path / "state")
    controller.start(*BRIDGES)
    controller.wait_for_session("one")
    assert {bridge: flows_of(bridge) for bridge in BRIDGES} == before

    assert controller.end() == 0
    make_old(tmp_path / "state")
    vsctl("set-controller", "s1", NOBODY)
    controller.inventory.write_text(tap_of("blue"))
    controller.start("s2", "s3")
    controller.create_collector("blue", "blue-soc", "soc")
    controller.create_session("blue", "two", ["far"], "blue-soc", direction="egress")
    controller.wait_for_session("two")
    got = lab.exchange([(at["a"], RED), (at["far"], BLUE)] * MANY)
    assert got[at["b"]] == [RED] * MANY
    assert got[at["soc"]] == [BLUE] * MANY
