"""Routes are looked up at ovs-vswitchd of this machine; elsewhere they are unknown."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest
from netaddr import IPAddress

from controller.southbound import CommandFailed, NotAnswered
from controller.southbound.ovsdb import BridgeRow, Device, InterfaceRow, OvsdbSnapshot
from controller.topology.routes import ADDRESSES_MAX, RouteTable
from flows.model import Dpid, Ofport, Route, RouteState
from tests.ovs.waiting import wait_for

S1, S2 = Dpid(1), Dpid(2)
FAR, OTHER = IPAddress("192.0.2.9"), IPAddress("192.0.2.8")
HERE = BridgeRow(S1, "s1", "secure", "netdev", "unix:/run/openvswitch/db.sock")
AWAY = BridgeRow(S2, "s2", "secure", "netdev", "ssl:192.0.2.7:6640")
UNDER = InterfaceRow(S1, "s1", "under", device=Device(mtu=1400))
NEIGHBOURS = "IP  MAC  Bridge\n=====\n192.0.2.9  02:00:00:00:99:99  under\n"


class Vswitchd:
    """Answers like ovs-vswitchd."""

    def __init__(self) -> None:
        self.route: str | Exception = "src 192.0.2.1\ngateway ::\ndev under\n"
        self.neighbours: str | Exception = NEIGHBOURS

    def ask(self, command: str, *arguments: str) -> str:
        if command == "tnl/neigh/show":
            if isinstance(self.neighbours, Exception):
                raise self.neighbours
            return self.neighbours
        assert (command, arguments) == ("ovs/route/lookup", (str(FAR),))
        if isinstance(self.route, Exception):
            raise self.route
        return self.route


@pytest.fixture
def vswitchd() -> Vswitchd:
    return Vswitchd()


@pytest.fixture
def changes() -> list[None]:
    return []


@pytest.fixture
def table(vswitchd: Vswitchd, changes: list[None]) -> Iterator[RouteTable]:
    content = OvsdbSnapshot((HERE, AWAY), (UNDER,))
    table = RouteTable(lambda: content, lambda: changes.append(None), vswitchd.ask, 0.01)
    yield table
    table.stop()


def test_a_route_is_known_at_once_with_the_mtu_of_its_device(table: RouteTable) -> None:
    routes = table.watch([FAR])
    assert routes[S1, FAR] == Route(RouteState.FOUND, "under", 1400)
    assert routes[S2, FAR].state is RouteState.UNKNOWN
    assert "cannot be asked from here" in routes[S2, FAR].why
    assert table.watch([FAR]) is routes


def test_without_neighbours_no_route_is_known_and_the_reason_is_said(
    table: RouteTable, vswitchd: Vswitchd
) -> None:
    vswitchd.neighbours = CommandFailed('"tnl/neigh/show" is not a valid command')
    route = table.watch([FAR])[S1, FAR]
    assert route.state is RouteState.UNKNOWN
    assert "is not a valid command" in route.why


def test_a_route_that_goes_and_comes_is_noticed(
    table: RouteTable, vswitchd: Vswitchd, changes: list[None]
) -> None:
    table.watch([FAR])
    vswitchd.route = CommandFailed("Not found")
    wait_for(lambda: table.watch([FAR])[S1, FAR].state, lambda s: s is RouteState.MISSING)
    wait_for(lambda: len(changes), lambda count: count >= 1)
    vswitchd.route = "src 192.0.2.1\ngateway ::\ndev eth0\n"
    wait_for(lambda: table.watch([FAR])[S1, FAR].state, lambda s: s is RouteState.OFF_BRIDGE)


def uplink(name: str, is_up: bool | None, ofport: int | None = 1) -> InterfaceRow:
    number = None if ofport is None else Ofport(ofport)
    return InterfaceRow(S1, "under", name, ofport=number, is_up=is_up)


@pytest.mark.parametrize(
    ("ports", "state"),
    [
        ([uplink("eth1", False)], RouteState.UPLINK_DOWN),
        ([uplink("eth1", False), uplink("eth2", False)], RouteState.UPLINK_DOWN),
        ([uplink("eth1", False), uplink("eth2", True)], RouteState.FOUND),
        ([uplink("eth1", False), uplink("eth2", None)], RouteState.FOUND),
        ([uplink("eth1", False), uplink("gone", None, None)], RouteState.UPLINK_DOWN),
        ([uplink("gone", False, None)], RouteState.FOUND),
        ([], RouteState.FOUND),
    ],
)
def test_nothing_leaves_by_a_bridge_whose_every_port_is_down(
    vswitchd: Vswitchd, ports: list[InterfaceRow], state: RouteState
) -> None:
    under = InterfaceRow(S1, "under", "under", is_up=True, device=Device(mtu=1400))
    content = OvsdbSnapshot((HERE, AWAY), (under, *ports))
    table = RouteTable(lambda: content, lambda: None, vswitchd.ask, 60)
    route = table.watch([FAR])[S1, FAR]
    table.stop()
    assert (route.state, route.device, route.mtu) == (state, "under", 1400)
    assert route.is_broken == (state is RouteState.UPLINK_DOWN) == ("'eth1'" in route.why)


def test_a_next_hop_that_nobody_answered_for_is_named(
    table: RouteTable, vswitchd: Vswitchd
) -> None:
    vswitchd.route = "src 192.0.2.1\ngateway 192.0.2.254\ndev under\n"
    assert table.watch([FAR])[S1, FAR].unresolved == "192.0.2.254"


def test_a_switch_that_does_not_answer_leaves_routes_unknown(
    table: RouteTable, vswitchd: Vswitchd
) -> None:
    vswitchd.route = NotAnswered("it hangs")
    assert table.watch([FAR])[S1, FAR] == Route(why="it hangs")


def test_a_look_for_the_addresses_of_before_does_not_undo_what_was_found(
    vswitchd: Vswitchd,
) -> None:
    """The table begins to look while a new address is looked up, and is to wait for that."""
    content = OvsdbSnapshot((HERE,), (UNDER,))
    asked: list[str] = []

    def ask(command: str, *arguments: str) -> str:
        asked.extend(arguments)
        if arguments == (str(FAR),) and threading.current_thread() is threading.main_thread():
            wait_for(lambda: _where_is("routes"), lambda function: function == "_look")
        return vswitchd.neighbours if command == "tnl/neigh/show" else vswitchd.route  # type: ignore[return-value]

    table = RouteTable(lambda: content, lambda: None, ask, 0.01)
    try:
        table.watch([OTHER])  # the thread looks from now on
        table.watch([FAR])
        wait_for(lambda: asked.count(str(FAR)), lambda count: count >= 3)
        assert str(OTHER) not in asked[asked.index(str(FAR)) :]
    finally:
        table.stop()


def _where_is(thread: str) -> str:
    """The innermost function that a thread runs."""
    [number] = [each.ident for each in threading.enumerate() if each.name == thread]
    return sys._current_frames()[number or 0].f_code.co_name


def test_an_address_is_one_too_many_only_if_there_are_too_many(vswitchd: Vswitchd) -> None:
    content = [OvsdbSnapshot()]
    table = RouteTable(lambda: content[0], lambda: None, vswitchd.ask, 600)
    try:
        table.watch([FAR])
        content[0] = OvsdbSnapshot((HERE,), (UNDER,))  # a database has come
        assert table.watch([FAR])[S1, FAR].why == "it is being looked up"
        many = [IPAddress(int(FAR) - number) for number in range(ADDRESSES_MAX + 1)]
        vswitchd.neighbours = NotAnswered("it hangs")
        routes = table.watch(many)
        assert routes[S1, many[1]].why == "it hangs"
        assert routes[S1, FAR].why == f"more than {ADDRESSES_MAX} addresses are in use"
    finally:
        table.stop()
