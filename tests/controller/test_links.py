"""Whose link is down: the last report counts, and only tap ports where they are placed matter."""

from __future__ import annotations

import pytest

from controller.inventory.file import parse
from controller.topology.link_state import Links
from controller.southbound.ovsdb.rows import InterfaceRow, OvsdbSnapshot
from controller.southbound.wire.message import LOCAL_PORT, PortChange, PortReason, SwitchPort
from flows.model.session import Dpid, Ofport, PortId
from flows.model.world import Placement

S1, S2 = Dpid(1), Dpid(2)
INVENTORY = parse(b"""\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: web, tenant: red, network: lan, mac: "02:00:00:00:00:01"}
  - {id: ids-1, tenant: red, kind: tap}
  - {id: ids-2, tenant: red, kind: tap}
  - {id: nowhere, tenant: red, kind: tap}
""")
PLACES = {
    PortId("web"): Placement(S1, Ofport(1)),
    PortId("ids-1"): Placement(S1, Ofport(2)),
    PortId("ids-2"): Placement(S2, Ofport(2)),
}
MODIFIED, DELETED = PortReason.MODIFIED, PortReason.DELETED


def port(number: int, *, is_up: bool) -> SwitchPort:
    return SwitchPort(number, f"eth{number}", is_up)


def row(is_up: bool | None, number: int = 2, dpid: Dpid = S1) -> OvsdbSnapshot:
    interface = InterfaceRow(dpid, "s", f"eth{number}", ofport=Ofport(number), is_up=is_up)
    return OvsdbSnapshot(interfaces=(interface,))


@pytest.fixture
def links() -> Links:
    return Links()


def down(links: Links) -> set[str]:
    return set(links.down(INVENTORY, PLACES))


def test_a_port_that_nobody_spoke_of_is_up(links: Links) -> None:
    assert not links.report_interfaces(row(None))
    assert down(links) == set()


def test_a_link_that_a_bridge_reports_down_is_down_until_it_is_up(links: Links) -> None:
    assert links.report_port(S1, PortChange(MODIFIED, port(2, is_up=False)))
    assert down(links) == {"ids-1"}
    assert not links.report_port(S1, PortChange(MODIFIED, port(2, is_up=False))), "known"
    assert links.report_port(S1, PortChange(MODIFIED, port(2, is_up=True)))
    assert down(links) == set()


def test_a_bridge_that_tells_all_its_ports_speaks_for_itself_alone(links: Links) -> None:
    links.report_port(S2, PortChange(MODIFIED, port(2, is_up=False)))
    local = port(LOCAL_PORT, is_up=False)
    assert links.report_ports(S1, [port(1, is_up=False), port(2, is_up=False), local])
    assert down(links) == {"ids-1", "ids-2"}, "a workload is no sensor"
    assert links.report_ports(S1, [port(1, is_up=True), port(2, is_up=True), local])
    assert down(links) == {"ids-2"}
    assert not links.report_ports(S1, [local])


def test_a_port_that_is_removed_leaves_nothing_for_the_next_with_its_number(links: Links) -> None:
    links.report_port(S1, PortChange(MODIFIED, port(2, is_up=False)))
    assert links.report_port(S1, PortChange(DELETED, port(2, is_up=False)))
    assert down(links) == set()


def test_what_a_database_says_counts_when_it_says_something_new(links: Links) -> None:
    assert links.report_interfaces(row(False))
    assert down(links) == {"ids-1"}
    links.report_port(S1, PortChange(MODIFIED, port(2, is_up=True)))
    assert not links.report_interfaces(row(False)), "that was known before the bridge spoke"
    assert down(links) == set()
    assert not links.report_interfaces(row(True))
    assert links.report_interfaces(row(False))
    assert down(links) == {"ids-1"}
