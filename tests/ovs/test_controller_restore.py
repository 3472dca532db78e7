"""A backup is restored while a bridge is away: it goes on with numbers that the backup lacks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from tests import frames
from tests.ovs.controller_process import NOBODY, TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, vsctl
from tests.ovs.waiting import wait_for

A, B = 0x020000000001, 0x020000000002
"""Both tenants have equal addresses."""
FIRST = """\
tenants: [red, blue]
networks: [{id: first, name: first, tenant: red}]
ports: [{id: first, tenant: red, network: first, mac: "02:00:00:00:00:01", interface: s1-eth4}]
links: [{from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}]
"""
PORTS = {
    "s1": {1: "red-b", 2: "blue-b", 4: "first", 5: "red-ids", 6: "blue-ids"},
    "s2": {1: "red-a", 2: "blue-a"},
}
RED = frames.ethernet(B, A, 0x88B7, b"red" * 30)
BLUE = frames.ethernet(B, A, 0x88B7, b"blue" * 30)
MANY = 20
TAG = 77


def with_tenants(*tenants: str) -> str:
    """An inventory in which these have a network over the link, and a tap port, in this order."""
    networks = "".join(
        f"  - {{id: {tenant}-lan, name: lan, tenant: {tenant}}}\n" for tenant in tenants
    )
    ports = "".join(
        f"""\
  - {{id: {tenant}-a, name: a, tenant: {tenant}, network: {tenant}-lan,
      mac: "02:00:00:00:00:01", interface: s2-eth{n}}}
  - {{id: {tenant}-b, name: b, tenant: {tenant}, network: {tenant}-lan,
      mac: "02:00:00:00:00:02", interface: s1-eth{n}}}
  - {{id: {tenant}-ids, name: ids, tenant: {tenant}, kind: tap, interface: s1-eth{4 + n}}}
"""
        for n, tenant in ((1 + (tenant == "blue"), tenant) for tenant in tenants)
    )
    links = FIRST[FIRST.index("links:") :]
    return f"tenants: [red, blue]\nnetworks:\n{networks}ports:\n{ports}{links}"


@pytest.fixture
def at(lab: Lab) -> dict[str, Endpoint]:
    found: dict[str, Endpoint] = {}
    for dpid, (name, ports) in enumerate(PORTS.items(), 1):
        lab.add_bridge(name, dpid=dpid, controller=TARGET)
        found |= dict(zip(ports.values(), lab.add_ports(name, ports), strict=True))
    lab.link("s1", 9, "s2", 9)
    return found


@pytest.fixture
def controller(
    tmp_path: Path, at: dict[str, Endpoint], request: pytest.FixtureRequest
) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, FIRST) as process:
        yield process


def cloudtap(controller: ControllerProcess, *arguments: str) -> str:
    state = {"CLOUDTAP_STATE__DIRECTORY": str(controller.folder / "state")}
    done = CliRunner().invoke(main, arguments, env=state)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def leave(controller: ControllerProcess, bridge: str) -> None:
    """Have a bridge call nobody; it goes on with its flows."""
    vsctl("set-controller", bridge, NOBODY)
    wait_for(partial(controller.bridge, bridge), lambda seen: not seen.get("connected"))


def declare(controller: ControllerProcess, *tenants: str) -> None:
    """Put these into the inventory; returns when both bridges have it."""
    controller.inventory.write_text(with_tenants(*tenants))
    port = f"/v1/ports/{tenants[-1]}-b"
    wait_for(lambda: controller.api.get(port).status_code, lambda code: code == 200)
    for bridge in PORTS:
        controller.wait_for_bridge(bridge)


def tap(controller: ControllerProcess, tenant: str) -> None:
    """Have a tenant get copies of what it sends on s2, with a tag, at its tap port on s1."""
    controller.create_collector(tenant, f"{tenant}-ids", f"{tenant}-ids")
    controller.change_collector(f"{tenant}-ids", tenant_tag=TAG)
    controller.create_session(tenant, tenant, [f"{tenant}-a"], f"{tenant}-ids", direction="egress")


def exchange(lab: Lab, at: dict[str, Endpoint]) -> dict[tuple[str, str], int]:
    """Send frames of both tenants from s2; how many of each arrived at each port on s1."""
    got = lab.exchange([(at["red-a"], RED), (at["blue-a"], BLUE)] * MANY)
    return {
        (tenant, port): sum(sent[14:] in frame for frame in got[at[port]])
        for tenant, sent in (("red", RED), ("blue", BLUE))
        for port in ("red-b", "blue-b", "red-ids", "blue-ids")
    }


NONE = dict.fromkeys(
    [(t, p) for t in ("red", "blue") for p in ("red-b", "blue-b", "red-ids", "blue-ids")], 0
)
DELIVERED = NONE | {("red", "red-b"): MANY, ("blue", "blue-b"): MANY}


def test_after_a_restore_a_bridge_that_is_away_sends_nothing_to_another_tenant(
    lab: Lab, at: dict[str, Endpoint], controller: ControllerProcess
) -> None:
    controller.start(*PORTS)
    cloudtap(controller, "backup", str(controller.folder / "b.db"))
    declare(controller, "red")
    declare(controller, "red", "blue")
    declare(controller, "blue", "red")  # the order has no meaning
    tap(controller, "red")
    controller.wait_for_session("red")
    assert exchange(lab, at) == DELIVERED | {("red", "red-ids"): MANY}
    lab.remove_markers()

    leave(controller, "s2")
    assert controller.end() == 0
    said = cloudtap(controller, "restore", str(controller.folder / "b.db"))
    assert "not known" not in said
    controller.start("s1")
    assert exchange(lab, at) == DELIVERED, "production goes on, copies have nowhere to go"
    tap(controller, "blue")
    controller.wait_for_session("blue", "pending", "not connected")
    assert exchange(lab, at) == DELIVERED, "the way of copies is another one"

    lab.remove_markers()
    vsctl("set-controller", "s2", TARGET)
    controller.wait_until_connected("s2")
    controller.wait_for_bridge("s2")
    controller.wait_for_session("blue")
    assert exchange(lab, at) == DELIVERED | {("blue", "blue-ids"): MANY}
    copies = partial(controller.session, "blue")
    told = wait_for(lambda: copies()["status"]["copies"]["packets"], lambda n: n >= MANY)
    assert told == MANY, "what s2 has counted for a session that is gone counts for nobody"


def remove_state(controller: ControllerProcess) -> None:
    """As somebody who restores on a new machine, or after a disk was lost."""
    for file in (controller.folder / "state").glob("state.db*"):
        file.unlink()


def damage_state(controller: ControllerProcess) -> None:
    with sqlite3.connect(controller.folder / "state" / "state.db") as connection:
        connection.execute("UPDATE bridges SET dpid = 'x' || dpid")
    connection.close()


@pytest.mark.parametrize("lose", [remove_state, damage_state])
def test_a_restore_that_cannot_know_numbers_says_so_and_gives_none_that_follow(
    lab: Lab,
    at: dict[str, Endpoint],
    controller: ControllerProcess,
    lose: Callable[[ControllerProcess], None],
) -> None:
    controller.start(*PORTS)
    cloudtap(controller, "backup", str(controller.folder / "b.db"))
    declare(controller, "red")
    declare(controller, "red", "blue")
    declare(controller, "blue", "red")
    tap(controller, "red")
    controller.wait_for_session("red")

    leave(controller, "s2")
    assert controller.end() == 0
    lose(controller)
    said = cloudtap(controller, "restore", str(controller.folder / "b.db"))
    assert "see that all bridges can connect" in said and "mod-port" in said
    controller.start("s1")
    tap(controller, "blue")
    controller.wait_for_session("blue", "pending", "not connected")
    got = exchange(lab, at)
    assert got == NONE, "what s2 sends over the link has numbers that nobody has"

    lab.remove_markers()
    vsctl("set-controller", "s2", TARGET)
    controller.wait_until_connected("s2")
    controller.wait_for_bridge("s2")
    controller.wait_for_session("blue")
    assert exchange(lab, at) == DELIVERED | {("blue", "blue-ids"): MANY}


def red_numbers(controller: ControllerProcess) -> int:
    """How many numbers are kept for networks, ports and link tags of red."""
    with sqlite3.connect(controller.folder / "state" / "state.db") as connection:
        query = "SELECT count(*) FROM numbers WHERE key LIKE 'red/%-lan' OR key LIKE 'red/%-ids'"
        found = int(connection.execute(query).fetchone()[0])
    connection.close()
    return found


def test_what_comes_back_with_a_backup_has_no_tag_that_was_given_to_another_tenant(
    lab: Lab, at: dict[str, Endpoint], controller: ControllerProcess
) -> None:
    """It was removed after the backup, and nobody knows any more what was declared then."""
    controller.start(*PORTS)
    declare(controller, "red")
    cloudtap(controller, "backup", str(controller.folder / "b.db"))
    controller.inventory.write_text(FIRST)
    wait_for(lambda: red_numbers(controller), (0).__eq__)
    declare(controller, "blue")
    leave(controller, "s2")
    assert controller.end() == 0
    remove_state(controller)
    cloudtap(controller, "restore", str(controller.folder / "b.db"))
    controller.inventory.write_text(with_tenants("red", "blue"))
    controller.start("s1")
    controller.wait_for_bridge("s1")
    got = lab.exchange([(at["blue-a"], BLUE)] * MANY)
    crossed = {port: len(got[at[port]]) for port in ("red-b", "red-ids")}
    assert crossed == {"red-b": 0, "red-ids": 0}

    lab.remove_markers()
    vsctl("set-controller", "s2", TARGET)
    controller.wait_until_connected("s2")
    controller.wait_for_bridge("s2")
    assert exchange(lab, at) == DELIVERED
