"""Neutron as a source of the inventory: a real process, openstacksdk, and a real HTTP server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.inventory import InventoryFile, InventorySources, NeutronInventory, merge
from controller.inventory.neutron_objects import NeutronObjects
from controller.inventory.values import Inventory
from controller.neutron import NeutronRecord, Settings
from flows.errors import Refused
from flows.model import PortId
from tests.openstack_api import BLUE, PASSWORD, RED, OpenStackApi, port, reply
from tests.ovs.waiting import wait_for

TAPS = f"tenants: ['{RED}']\nports: [{{id: ids, tenant: '{RED}', kind: tap}}]\n"
Make = Callable[[], InventorySources]


def mac(number: int) -> str:
    """A MAC address."""
    return f"fa:16:3e:00:00:{number:02x}"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenStackApi]:
    with OpenStackApi(tmp_path) as found:
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(found.clouds))
        found.set_ports(*(port(f"p{n}", RED, mac(n), name=f"web{n}") for n in range(1, 7)))
        yield found


@pytest.fixture
def start(api: OpenStackApi, tmp_path: Path) -> Iterator[Make]:
    """Makes the inventory of a controller that starts now; an earlier one is ended before."""
    running: list[NeutronInventory] = []
    file = tmp_path / "inventory.yaml"
    file.write_text(TAPS)

    def make() -> InventorySources:
        for one in running:
            one.stop()
        neutron = NeutronInventory(
            Settings("lab", poll_seconds=0.1, timeout_seconds=2.0),
            vanish_limit=0.5,
            kept=tmp_path / "kept.json",
            running=lambda: frozenset(map(PortId, api.ports)),
        )
        neutron.start()
        running.append(neutron)
        return InventorySources(InventoryFile(file), neutron)

    yield make
    for one in running:
        one.stop()


def owners(sources: InventorySources) -> dict[str, str]:
    """The tenant of each port, after a look."""
    sources.reload_if_changed()
    return {port.id: port.tenant for port in sources.inventory.ports}


def said(sources: InventorySources) -> str:
    """All problems, after a look."""
    sources.reload_if_changed()
    return "\n".join(sources.problems)


def fails(status: int) -> Callable[[BaseHTTPRequestHandler, str], bool]:
    """Answers each request for ports with an error."""

    def answer(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if path == "/v2.0/ports":
            reply(handler, status, {})
        return path == "/v2.0/ports"

    return answer


def test_tap_ports_of_the_file_and_workloads_of_neutron_are_one_inventory(start: Make) -> None:
    sources = start()
    sources.reload_if_changed()
    assert not sources.is_known, "what is declared is only half of it"
    assert "has not answered yet" in said(sources)
    wait_for(lambda: owners(sources), lambda found: len(found) == 7)
    assert (sources.is_known, sources.problems) == (True, ())
    assert sources.inventory.titles == {RED: "red", BLUE: "blue"}
    assert {p.name for p in sources.inventory.ports} == {f"web{n}" for n in range(1, 7)} | {"ids"}


def test_changes_follow_and_an_equal_answer_changes_nothing(api: OpenStackApi, start: Make) -> None:
    sources = start()
    wait_for(lambda: owners(sources), lambda found: len(found) == 7)
    before, asked = sources.inventory, api.asked["/v2.0/ports"]
    api.ports = dict(reversed(api.ports.items()))
    wait_for(lambda: api.asked["/v2.0/ports"], lambda now: now > asked + 2)
    assert sources.reload_if_changed() is None and sources.inventory is before
    api.set_ports(*(one for one in api.ports.values() if one["id"] != "p1"))
    wait_for(lambda: owners(sources), lambda found: "p1" not in found)
    api.set_ports(
        *({**one, "project_id": BLUE} if one["id"] == "p2" else one for one in api.ports.values())
    )
    wait_for(lambda: owners(sources)["p2"], BLUE.__eq__)


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_what_was_said_last_counts_while_neutron_fails(
    api: OpenStackApi, start: Make, status: int
) -> None:
    sources = start()
    wait_for(lambda: owners(sources), lambda found: len(found) == 7)
    api.damage = fails(status)
    found = wait_for(lambda: said(sources), bool)
    assert "has not answered since 2" in found and "what it said last counts" in found
    assert PASSWORD not in found and len(owners(sources)) == 7
    api.damage = None
    wait_for(lambda: said(sources), "".__eq__)


def test_a_start_without_neutron_has_what_it_said_last(api: OpenStackApi, start: Make) -> None:
    first = start()
    wait_for(lambda: owners(first), lambda found: len(found) == 7)
    api.damage = fails(503)
    sources = start()
    assert len(owners(sources)) == 7 and sources.is_known
    wait_for(lambda: said(sources), lambda found: "503" in found)


def test_a_first_start_without_neutron_knows_nothing_and_says_why(
    api: OpenStackApi, start: Make
) -> None:
    api.damage = fails(503)
    sources = start()
    found = wait_for(lambda: said(sources), lambda found: "503" in found)
    assert not sources.is_known and "no bridge is written to" in found


def test_kept_objects_that_cannot_be_read_are_told(
    api: OpenStackApi, start: Make, tmp_path: Path
) -> None:
    (tmp_path / "kept.json").write_text('[["ports", 1')
    (tmp_path / "kept.json").chmod(0o600)
    sources = start()
    assert "what Neutron said last is not known" in said(sources)
    wait_for(lambda: said(sources), "".__eq__)


def test_too_much_that_vanishes_needs_a_word_of_the_operator(
    api: OpenStackApi, start: Make
) -> None:
    sources = start()
    wait_for(lambda: owners(sources), lambda found: len(found) == 7)
    all_ports = list(api.ports.values())
    api.set_ports()
    found = wait_for(lambda: said(sources), bool)
    assert "6 of 6 ports" in found and "cloudtap inventory accept" in found
    assert len(owners(sources)) == 7
    pending = sources.pending
    assert pending is not None
    api.set_ports(all_ports[0])
    wait_for(lambda: (said(sources), sources.pending), lambda now: now[1] not in (None, pending))
    with pytest.raises(Refused, match="has changed since"):
        sources.accept(pending.digest)
    assert sources.pending is not None
    sources.accept(sources.pending.digest)
    wait_for(lambda: sorted(owners(sources)), ["ids", "p1"].__eq__)
    assert sources.problems == ()


# --- objects and merge, without a server --------------------------------------------------------


def record(project: str, number: int, name: str = "", **fields: object) -> NeutronRecord:
    """A workload as the process reports it."""
    return {
        "name": name, "project": project, "network": f"net-{project}", "mac": mac(number),
        "ips": [], "is_protected": True, **fields,
    }  # fmt: skip


def told(changes: list[tuple[str, str, NeutronRecord | None]]) -> tuple[Inventory, tuple[str, ...]]:
    """What is made of changes in this order."""
    objects = NeutronObjects()
    for change in changes:
        objects.change(*change)
    answer = objects.answer()
    return answer.inventory, answer.problems


LANS = [("networks", f"net-{p}", {"name": "lan", "project": p}) for p in (RED, BLUE)]
CHANGES = st.permutations(
    [
        *LANS,
        ("projects", RED, {"name": "red"}),
        ("ports", "p1", record(RED, 1, "web")),
        ("ports", "p2", record(RED, 2, "web")),
        ("ports", "p3", record(RED, 3, "p1")),
        ("ports", "p4", record(BLUE, 1, "web")),
        ("ports", "p5", record(BLUE, 5)),
        ("ports", "p6", record(BLUE, 5)),
        ("ports", "p7", record(BLUE, 7, network="nowhere")),
        ("ports", "p8", record(BLUE, 8, ips=["no address"])),
    ]
)


@given(CHANGES, CHANGES)
def test_the_inventory_does_not_depend_on_the_order(
    one: list[tuple[str, str, NeutronRecord | None]],
    other: list[tuple[str, str, NeutronRecord | None]],
) -> None:
    assert told(one) == told(other)
    file = Inventory(ports=told([*LANS, ("ports", "p1", record(BLUE, 9))])[0].ports)
    assert merge(file, told(one)[0]) == merge(file, told(other)[0])


def test_names_that_do_not_tell_ports_apart_are_replaced_by_ids() -> None:
    changes = [
        *LANS,
        ("ports", "p1", record(RED, 1, "web")),
        ("ports", "p2", record(RED, 2, "web")),
        ("ports", "p3", record(RED, 3, "p1")),
        ("ports", "p4", record(BLUE, 1, "web")),
        ("ports", "p5", record(RED, 5, "two words")),
    ]
    found, problems = told(changes)
    names = {port.id: port.name for port in found.ports}
    assert names == {"p1": "p1", "p2": "p2", "p3": "p3", "p4": "web", "p5": "p5"}
    assert problems == ()


def test_objects_that_cannot_be_used_are_told_and_the_others_are_used() -> None:
    found, problems = told(
        [
            *LANS,
            ("ports", "p1", record(RED, 1)),
            ("ports", "p2", record(RED, 5)),
            ("ports", "p3", record(RED, 5)),
            ("ports", "p4", record(RED, 6, network="nowhere")),
            ("ports", "p5", record(RED, 7, ips=["no address"])),
            ("ports", "p6", record(RED, 8, mac="")),
            ("ports", "p7", {}),
        ]
    )
    assert [port.id for port in found.ports] == ["p1"]
    text = "\n".join(problems)
    for key in ("p5", "p6", "p7", "p4", "p2"):
        assert f"port {key} is not used" in text
    assert "1 more" in text


def test_the_file_wins_and_a_contradiction_is_told() -> None:
    neutron, _ = told([*LANS, ("ports", "p1", record(RED, 1)), ("ports", "p2", record(RED, 2))])
    theirs, _ = told([*LANS, ("ports", "p1", record(BLUE, 1)), ("ports", "p9", record(RED, 2))])
    file = Inventory(tenants=theirs.tenants, networks=theirs.networks[:1], ports=theirs.ports)
    whole, conflicts = merge(file, neutron)
    assert [port.id for port in whole.ports] == ["p1", "p9"]
    assert next(port.tenant for port in whole.ports if port.id == "p1") == BLUE
    assert "port p1 has another tenant and network in Neutron" in conflicts[0]
    assert "port p2 of Neutron is not used" in conflicts[1]
    assert merge(file, file) == (file, ())
