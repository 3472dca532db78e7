"""A tunnel key is given up and asked for by another tenant while a bridge that uses it is away."""

from __future__ import annotations

import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import frames
from tests.ovs.controller_process import NOBODY, TARGET, ControllerProcess, Document
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, vsctl
from tests.ovs.underlay import SENSORS, Underlay
from tests.ovs.waiting import wait_for

A, B, FAR = 0x020000000001, 0x020000000002, 0x020000000003
BRIDGES = ("s1", "s2")
PORTS = {"s1": {1: "a", 2: "b"}, "s2": {1: "far", 2: "soc"}}
INVENTORY = """\
tenants: [red, blue]
networks: [{name: lan, tenant: red}, {name: lan, tenant: blue}]
ports:
  - {id: a, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: s1-eth1}
  - {id: b, tenant: red, network: lan, mac: "02:00:00:00:00:02", interface: s1-eth2}
  - {id: far, tenant: blue, network: lan, mac: "02:00:00:00:00:03", interface: s2-eth1}
  - {id: soc, tenant: red, kind: tap, interface: s2-eth2}
"""
HERE, THERE = SENSORS[:2]
KEY = 0x800000
MANY = 20
RED = frames.ethernet(B, A, 0x88B7, b"red" * 30)
BLUE = frames.ethernet(B, FAR, 0x88B7, b"blue" * 30)


@pytest.fixture
def at(lab: Lab) -> dict[str, Endpoint]:
    found: dict[str, Endpoint] = {}
    for dpid, name in enumerate(BRIDGES, 1):
        lab.add_bridge(name, dpid=dpid, controller=TARGET)
        ports = PORTS[name]
        found |= dict(zip(ports.values(), lab.add_ports(name, ports), strict=True))
    return found


@pytest.fixture
def underlay(lab: Lab, at: dict[str, Endpoint]) -> Underlay:
    return Underlay(lab)


@pytest.fixture
def controller(tmp_path: Path, at: dict[str, Endpoint]) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        yield process


def make_remote(
    controller: ControllerProcess, tenant: str, status: int = 201, **more: object
) -> Document:
    """Create a collector with one remote sensor; returns the answer, which has this status."""
    body = {"tenant": tenant, "name": f"{tenant}-far", "delivery": "vxlan", **more}
    answer = controller.api.post("/v1/collectors", json={"sensors": [{"address": HERE}], **body})
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def delete(controller: ControllerProcess) -> None:
    """Have the session of red deliver elsewhere, and delete its collector."""
    controller.create_collector("red", "near", "soc")
    controller.change_session("one", collector="near")
    assert controller.api.delete("/v1/collectors/red-far").status_code == 204


def move(controller: ControllerProcess) -> None:
    """Give the collector of red another address."""
    controller.change_collector("red-far", sensors=[{"address": THERE}])


def leave(controller: ControllerProcess, bridge: str) -> None:
    """Have a bridge call nobody; it goes on with its flows."""
    vsctl("set-controller", bridge, NOBODY)
    wait_for(partial(controller.bridge, bridge), lambda seen: not seen.get("connected"))


def arrived(
    lab: Lab, at: dict[str, Endpoint], underlay: Underlay, sent: list[tuple[str, bytes]]
) -> Counter[tuple[str, bytes, int | None]]:
    """Send frames; returns what came to sensors in tunnels: frames, by tenant and key."""
    underlay.arrived()
    lab.exchange([(at[name], frame) for name, frame in sent])
    lab.remove_markers()
    tenants = {RED: "red", BLUE: "blue"}
    return Counter((tenants[c.frame], c.address, c.key) for c in underlay.arrived())


def go_on(controller: ControllerProcess, state: Path) -> None:
    """No restart."""


def restart(controller: ControllerProcess, state: Path) -> None:
    assert controller.end(signal.SIGKILL) != 0
    controller.start("s2")


def upgrade(controller: ControllerProcess, state: Path) -> None:
    """A restart with a database of a version that did not hold keys."""
    assert controller.end() == 0
    with sqlite3.connect(state / "state.db") as connection:
        connection.execute("DROP TABLE held_keys")
        connection.execute("UPDATE schema SET version = 9")
    connection.close()
    controller.start("s2")


@pytest.mark.parametrize(("give_up", "then"), [(delete, go_on), (delete, upgrade), (move, restart)])
def test_a_key_that_a_bridge_which_is_away_sends_with_is_not_given_to_another_tenant(
    lab: Lab,
    at: dict[str, Endpoint],
    underlay: Underlay,
    controller: ControllerProcess,
    tmp_path: Path,
    give_up: Callable[[ControllerProcess], None],
    then: Callable[[ControllerProcess, Path], None],
) -> None:
    controller.start(*BRIDGES)
    assert make_remote(controller, "red")["vni"] == KEY
    controller.create_session("red", "one", ["a"], "red-far", direction="egress")
    controller.wait_for_session("one")
    leave(controller, "s1")
    give_up(controller)
    then(controller, tmp_path / "state")

    refusal = make_remote(controller, "blue", 409, vni=KEY)["detail"]
    assert f"may not send to {HERE} with vni {KEY} yet: another tenant did" in refusal
    own = make_remote(controller, "blue")["vni"]
    controller.create_session("blue", "two", ["far"], "blue-far", direction="egress")
    controller.wait_for_session("two")
    seen = arrived(lab, at, underlay, [("a", RED), ("far", BLUE)] * MANY)
    assert seen == {("red", HERE, KEY): MANY, ("blue", HERE, own): MANY}
    again = make_remote(controller, "red", name="again", vni=KEY)
    controller.api.delete(f"/v1/collectors/{again['id']}").raise_for_status()

    controller.wait_until_connected("s1")
    body = {"tenant": "blue", "name": "late", "delivery": "vxlan", "vni": KEY}
    look = partial(
        controller.api.post, "/v1/collectors", json={"sensors": [{"address": HERE}], **body}
    )
    wait_for(look, lambda answer: answer.status_code == 201)
    seen = arrived(lab, at, underlay, [("a", RED), ("far", BLUE)] * MANY)
    assert not [key for key in seen if key[:2] == ("red", HERE)]
    assert seen["blue", HERE, own] == MANY


def test_a_tenant_that_takes_keys_in_a_loop_while_a_bridge_is_away_leaves_another_one_some(
    lab: Lab,
    at: dict[str, Endpoint],
    underlay: Underlay,
    controller: ControllerProcess,
    tmp_path: Path,
) -> None:
    """ERSPAN has 1,023 session ids in all."""
    controller.start(*BRIDGES)
    leave(controller, "s1")
    assert controller.end() == 0
    with sqlite3.connect(tmp_path / "state" / "state.db") as connection:
        rows = [(key, HERE) for key in range(1, 670)]  # as 669 times make_remote and delete
        insert = "INSERT INTO held_keys (tenant, delivery, key, address) VALUES ('red', 'erspan2'"
        connection.executemany(f"{insert}, ?, ?)", rows)
    connection.close()
    controller.start("s2")
    refusal = ""
    for key in range(670, 1024):
        body = {"tenant": "red", "name": "loop", "delivery": "erspan2", "session_id": key}
        answer = controller.api.post(
            "/v1/collectors", json={"sensors": [{"address": HERE}], **body}
        )
        if answer.status_code == 409:
            refusal = answer.json()["detail"]
            break
        controller.api.delete("/v1/collectors/loop").raise_for_status()

    own = make_remote(controller, "blue", delivery="erspan2")["session_id"]
    controller.create_session("blue", "two", ["far"], "blue-far", direction="egress")
    controller.wait_for_session("two")
    seen = arrived(lab, at, underlay, [("far", BLUE)] * MANY)
    assert seen == {("blue", HERE, own): MANY}
    assert "tenant 'red' may have no session_id more" in refusal
    assert "that it has given up are held" in refusal and "not connected now: 's1'" in refusal
    again = make_remote(controller, "red", delivery="erspan2")["session_id"]
    assert again < own, "what is held for it is its own"

    controller.wait_until_connected("s1")
    body = {"tenant": "red", "name": "late", "delivery": "erspan2", "session_id": own + 1}
    look = partial(
        controller.api.post, "/v1/collectors", json={"sensors": [{"address": HERE}], **body}
    )
    wait_for(look, lambda answer: answer.status_code == 201)
