"""Copies that pass other bridges on their way: what these do to them is part of what is told."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import frames
from tests.ovs.controller_process import TARGET, ControllerProcess, Document
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.waiting import wait_for

A, B = 0x020000000001, 0x020000000002
INVENTORY = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: a, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: s1-eth1}
  - {id: b, tenant: red, network: lan, mac: "02:00:00:00:00:02", interface: s1-eth2}
  - {id: soc, tenant: red, kind: tap, interface: s3-eth5}
links:
  - {from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}
  - {from: {bridge: s2, interface: s2-eth8}, to: {bridge: s3, interface: s3-eth8}}
"""
CAP = """\
  - {id: cap, tenant: red, kind: tap, interface: s1-eth6}
"""
MANY = 20
FRAME = frames.ethernet(B, A, 0x88B7, bytes(86))


@pytest.fixture
def at(lab: Lab) -> dict[str, Endpoint]:
    for number in (1, 2, 3):
        lab.add_bridge(f"s{number}", dpid=number, controller=TARGET)
    found = dict(zip("ab", lab.add_ports("s1", {1: "a", 2: "b"}), strict=True))
    (found["soc"],) = lab.add_ports("s3", {5: "soc"})
    lab.link("s1", 9, "s2", 9)
    lab.link("s2", 8, "s3", 8)
    return found


@pytest.fixture
def controller(tmp_path: Path, at: dict[str, Endpoint]) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1", "s2", "s3")
        process.create_collector("red", "soc", "soc")
        yield process


def told(controller: ControllerProcess) -> tuple[int, dict[str, int]]:
    """The copies of the session that were made, and those that were not, by reason."""
    status = controller.session("one")["status"]
    return status["copies"]["packets"], status["skipped"]


def cap_of(controller: ControllerProcess, name: str) -> object:
    """The cap that keeps copies of a session below what ports on their way send."""
    return controller.session(name)["status"]["port_rate"]


def limit(lab: Lab, port: str, bps: int) -> None:
    """Give a port a QoS of so many bits a second."""
    vsctl(
        *("set", "Port", port, "qos=@q", "--"),
        *("--id=@q", "create", "QoS", "type=linux-htb", f"other-config:max-rate={bps}"),
    )
    lab.on_close(lambda: vsctl("clear", "Port", port, "qos", "--", "--all", "destroy", "QoS"))


@pytest.mark.parametrize(
    ("protected", "which"),
    [(("s2-eth9", "s2-eth8"), "s2"), (("s3-eth8", "s3-eth5"), "s3")],
    ids=["between two links", "between a link and the tap port"],
)
def test_protected_ports_on_the_way_are_said_and_their_copies_are_lost(
    lab: Lab,
    at: dict[str, Endpoint],
    controller: ControllerProcess,
    protected: tuple[str, str],
    which: str,
) -> None:
    controller.create_session("red", "one", ["a"], "soc", direction="egress")
    for port in protected:
        vsctl("set", "Port", port, "protected=true")
    words = f"bridge '{which}' sends no copies from '{protected[0]}' to '{protected[1]}'"
    controller.wait_for_session("one", "degraded", words)
    lab.endpoints.remove(at["soc"])  # markers do not reach it either
    got = lab.exchange([(at["a"], FRAME)] * MANY)
    assert got[at["b"]] == [FRAME] * MANY
    wait_for(partial(told, controller), lambda seen: seen == (0, {"path": MANY}))
    asked = {"tenant": "red", "port": "a", "hex": FRAME.hex()}
    explained = controller.api.post("/v1/explain", json=asked).json()
    assert words in str(explained["sessions"]), explained
    vsctl("set", "Port", protected[0], "protected=false")
    wait_for(lambda: controller.session("one")["status"]["reasons"], lambda r: words not in str(r))
    lab.endpoints.append(at["soc"])
    lab.install_markers()
    assert lab.exchange([(at["a"], FRAME)] * MANY)[at["soc"]] == [FRAME] * MANY
    wait_for(partial(told, controller), lambda seen: seen == (MANY, {"path": MANY}))


@pytest.mark.parametrize("away", ["s2", "s3"])
def test_a_bridge_on_the_way_that_is_away_is_said(
    at: dict[str, Endpoint], controller: ControllerProcess, away: str
) -> None:
    controller.create_session("red", "one", ["a"], "soc", direction="egress")
    assert controller.session("one")["status"]["reasons"] == []
    vsctl("set-controller", away, "tcp:127.0.0.1:1")
    words = f"bridge {away}, by which copies go, is not connected: unless it has stopped"
    controller.wait_for_session("one", "degraded", words)
    asked = {"tenant": "red", "port": "a", "hex": FRAME.hex()}
    assert words in str(controller.api.post("/v1/explain", json=asked).json()["sessions"])
    controller.create_session("red", "late", ["b"], "soc", direction="egress")
    late = f"bridge {away}, by which copies go, is not connected and has not got the last change"
    controller.wait_for_session("late", "degraded", late)
    vsctl("set-controller", away, TARGET)
    for name in ("one", "late"):
        controller.wait_for_session(name, "active")
        assert controller.session(name)["status"]["reasons"] == []


def test_a_slow_link_caps_the_copies_that_cross_it(
    lab: Lab, at: dict[str, Endpoint], controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["a"], "soc", direction="egress")
    limit(lab, "s2-eth8", 10_000_000)
    wait_for(partial(cap_of, controller, "one"), {"kbps": 4500}.__eq__)
    controller.create_session("red", "two", ["b"], "soc", direction="egress")
    for name in ("one", "two"):
        wait_for(partial(cap_of, controller, name), {"kbps": 2250}.__eq__)
    lab.endpoints.remove(at["soc"])  # markers would wait in the queue
    lab.install_markers()
    long = frames.ethernet(B, A, 0x88B7, bytes(1400))
    got = lab.exchange([(at["a"], long)] * 40 * MANY, burst_size=MANY, pause=1)
    assert got[at["b"]] == [long] * 40 * MANY, "production of the bridge that makes the copies"
    controller.wait_for_session("one", "degraded", "exceeded what a port on the way sends")
    made, skipped = wait_for(
        partial(told, controller), lambda seen: seen[0] + sum(seen[1].values()) == 40 * MANY
    )
    assert made and skipped.keys() == {"port_rate"}


@pytest.mark.parametrize("gone", ["s3-eth5", "s2-eth8", "s1-eth9"])
def test_copies_for_which_there_is_no_way_any_more_are_counted_as_lost(
    lab: Lab, at: dict[str, Endpoint], controller: ControllerProcess, gone: str
) -> None:
    controller.create_session("red", "one", ["a"], "soc", direction="egress")
    lab.install_markers()
    lab.endpoints.remove(at["soc"])  # markers do not reach it either
    lab.links.clear()
    vsctl("del-port", gone)
    seen = controller.wait_for_session("one", "pending", "soc")["status"]
    wait_for(lambda: controller.session("one")["status"]["bridges"], is_settled)
    asked = {"tenant": "red", "port": "a", "hex": FRAME.hex()}
    explained = controller.api.post("/v1/explain", json=asked).json()
    assert f"not copied: no sensor can get it: {seen['reasons'][0]}" in str(explained["sessions"])
    got = lab.exchange([(at["a"], FRAME)] * MANY)
    assert got[at["b"]] == [FRAME] * MANY
    wait_for(partial(told, controller), lambda seen: seen == (0, {"path": MANY}))


def is_settled(bridges: list[Document]) -> bool:
    """Whether one bridge counts the copies of a session, and none makes them."""
    return [(share["bridge"], share["state"]) for share in bridges] == [("s1", "pending")]


@pytest.fixture
def patched(lab: Lab, tmp_path: Path) -> Iterator[tuple[dict[str, Endpoint], ControllerProcess]]:
    """Bridges that are joined by patch ports, and a sensor behind another one."""
    for number in (1, 2, 3):
        lab.add_bridge(f"s{number}", dpid=number, controller=TARGET)
    at = dict(zip("ab", lab.add_ports("s1", {1: "a", 2: "b"}), strict=True))
    (at["soc"],) = lab.add_ports("s3", {5: "soc"})
    lab.add_bridge("out", dpid=4)
    at["cap"] = lab.add_port("out", 1)
    for near, far in (("s1-eth9", "s2-eth9"), ("s2-eth8", "s3-eth8"), ("s1-eth6", "out-eth6")):
        for one, peer in ((near, far), (far, near)):
            bridge, _, number = one.partition("-eth")
            vsctl(
                *("add-port", bridge, one, "--", "set", "Interface", one, "type=patch"),
                *(f"options:peer={peer}", f"ofport_request={number}"),
            )
    ofctl("add-flow", "out", "in_port=6,actions=output:1")
    with ControllerProcess(tmp_path, INVENTORY.replace("links:", CAP + "links:")) as process:
        process.start("s1", "s2", "s3")
        for name in ("soc", "cap"):
            process.create_collector("red", name, name)
        yield at, process


def test_copies_that_would_be_cut_at_a_patch_port_are_not_told_as_made(
    lab: Lab, patched: tuple[dict[str, Endpoint], ControllerProcess]
) -> None:
    at, controller = patched
    long = frames.ethernet(B, A, 0x88B7, bytes(1486))
    for sensor in ("soc", "cap"):
        controller.create_session("red", "one", ["a"], sensor, direction="egress")
        assert controller.session("one")["status"]["state"] == "active"
        got = lab.exchange([(at["a"], FRAME)] * MANY + [(at["a"], long)] * MANY)
        assert got[at["b"]] == got[at[sensor]] == [FRAME] * MANY + [long] * MANY
        wait_for(partial(told, controller), lambda seen: seen == (2 * MANY, {}))
        controller.change_session("one", packet_length=100)
        words = "packets longer than 100 bytes are not copied, because Open vSwitch cannot truncate"
        controller.wait_for_session("one", "degraded", words)
        got = lab.exchange([(at["a"], FRAME)] * MANY + [(at["a"], long)] * MANY)
        assert got[at["b"]] == [FRAME] * MANY + [long] * MANY
        assert got[at[sensor]] == [FRAME] * MANY
        wait_for(partial(told, controller), lambda seen: seen == (3 * MANY, {"mtu": MANY}))
        assert controller.delete_session("one") == 204
