"""The latest report of a link counts, and only for tap ports at their placements."""

from __future__ import annotations

import pytest

from controller.inventory.file import parse
from controller.southbound import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import InterfaceRow, OvsdbSnapshot
from controller.topology.link_state import HOLD_MAX_S, HOLD_S, STEADY_S, LinkStates
from flows.model import Dpid, Link, Ofport, Placement, PortId

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


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def row(is_up: bool | None, number: int = 2, dpid: Dpid = S1) -> OvsdbSnapshot:
    interface = InterfaceRow(dpid, "s", f"eth{number}", ofport=Ofport(number), is_up=is_up)
    return OvsdbSnapshot(interfaces=(interface,))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def links(clock: Clock) -> LinkStates:
    return LinkStates(clock)


def down(links: LinkStates) -> set[str]:
    return set(links.down(INVENTORY, PLACES))


def test_every_link_that_is_down_is_known_also_those_of_workloads() -> None:
    links = LinkStates()
    links.report_ports(S1, [port(1, is_up=False), port(2, is_up=True), port(9, is_up=False)])
    links.report_ports(S2, [port(LOCAL_PORT, is_up=False)])
    assert links.all_down() == {Placement(S1, Ofport(1)), Placement(S1, Ofport(9))}
    links.report_port(S1, PortChange(MODIFIED, port(1, is_up=True)))
    assert links.all_down() == {Placement(S1, Ofport(9))}


def test_a_port_without_a_report_is_up(links: LinkStates) -> None:
    assert not links.report_interfaces(row(None))
    assert down(links) == set()


def test_a_link_that_a_bridge_reports_down_is_down_until_it_is_up(links: LinkStates) -> None:
    assert links.report_port(S1, PortChange(MODIFIED, port(2, is_up=False)))
    assert down(links) == {"ids-1"}
    assert not links.report_port(S1, PortChange(MODIFIED, port(2, is_up=False))), "known"
    assert links.report_port(S1, PortChange(MODIFIED, port(2, is_up=True)))
    assert down(links) == set()


def test_a_bridge_that_reports_all_its_ports_changes_no_other_bridge(links: LinkStates) -> None:
    links.report_port(S2, PortChange(MODIFIED, port(2, is_up=False)))
    local = port(LOCAL_PORT, is_up=False)
    assert links.report_ports(S1, [port(1, is_up=False), port(2, is_up=False), local])
    assert down(links) == {"ids-1", "ids-2"}, "a workload is no sensor"
    assert links.report_ports(S1, [port(1, is_up=True), port(2, is_up=True), local])
    assert down(links) == {"ids-2"}
    assert not links.report_ports(S1, [local])


def test_a_deleted_port_leaves_no_state_for_the_next_one_with_its_number(
    links: LinkStates,
) -> None:
    links.report_port(S1, PortChange(MODIFIED, port(2, is_up=False)))
    assert links.report_port(S1, PortChange(DELETED, port(2, is_up=False)))
    assert down(links) == set()


def test_a_database_counts_when_its_state_changes(links: LinkStates) -> None:
    assert links.report_interfaces(row(False))
    assert down(links) == {"ids-1"}
    links.report_port(S1, PortChange(MODIFIED, port(2, is_up=True)))
    assert not links.report_interfaces(row(False)), "known before the report of the bridge"
    assert down(links) == set()
    assert not links.report_interfaces(row(True))
    assert links.report_interfaces(row(False))
    assert down(links) == {"ids-1"}


def test_an_end_of_a_link_between_bridges_may_be_down(links: LinkStates) -> None:
    cable = Link(Placement(S1, Ofport(9)), Placement(S2, Ofport(9)))
    links.report_port(S1, PortChange(MODIFIED, port(9, is_up=False)))
    assert links.down(INVENTORY, PLACES, [cable]) == {cable.a}
    assert down(links) == set()


def turn(links: LinkStates, *states: bool) -> None:
    for is_up in states:
        links.report_port(S1, PortChange(MODIFIED, port(2, is_up=is_up)))


def test_a_link_that_comes_back_once_is_used_at_once(links: LinkStates, clock: Clock) -> None:
    for _ in range(5):
        turn(links, False, True)
        assert (down(links), links.due()) == (set(), None)
        clock.now += STEADY_S


def test_a_link_that_flaps_is_used_again_only_after_it_was_up_for_a_while(
    links: LinkStates, clock: Clock
) -> None:
    turn(links, False, True, False, True)
    assert (down(links), links.due()) == ({"ids-1"}, clock.now + HOLD_S)
    clock.now += HOLD_S
    assert (down(links), links.due()) == (set(), None)
    for _ in range(10):
        turn(links, False, True)
        assert down(links) == {"ids-1"}
        clock.now += 0.9 * HOLD_S
    assert links.due() is not None, "it is looked at again"
    clock.now += HOLD_MAX_S
    assert down(links) == set()


def test_a_link_that_flaps_for_ever_changes_the_flows_a_few_times_a_minute(
    links: LinkStates, clock: Clock
) -> None:
    seen, changes = down(links), 0
    for step in range(60_000):
        turn(links, step % 2 == 0)
        clock.now += 0.01
        changes += seen != (seen := down(links))
    assert changes <= 6


def test_a_port_that_is_new_has_not_flapped(links: LinkStates) -> None:
    turn(links, False, True, False, True)
    links.report_port(S1, PortChange(DELETED, port(2, is_up=False)))
    assert down(links) == set()
    turn(links, False, True, False, True)
    links.report_ports(S1, [port(3, is_up=True)])
    assert down(links) == set()
