"""Placements: reports of bridges, databases and the inventory, merged without guessing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.inventory import InterfaceName, Inventory, LinkHint
from controller.inventory.values import PortHint
from controller.southbound import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import InterfaceRow, OvsdbSnapshot
from controller.southbound.ovsdb.rows import BridgeRow
from controller.topology import Placements
from flows.model import Dpid, Link, Network, NetworkId, Ofport, Placement, Port, PortId, TenantName

S1, S2 = Dpid(1), Dpid(2)
LAN = Network(NetworkId("lan"), "lan", TenantName("red"))


def inventory(hints: Mapping[str, PortHint | None], links: tuple[LinkHint, ...] = ()) -> Inventory:
    ports = tuple(
        Port(PortId(name), name, LAN.tenant, LAN.id, anti_spoofing=False) for name in hints
    )
    known = {PortId(name): hint for name, hint in hints.items() if hint is not None}
    return Inventory((LAN.tenant,), (LAN,), ports, known, links)


def switch_ports(bridge: str, **numbers: int) -> list[SwitchPort]:
    local = SwitchPort(LOCAL_PORT, bridge, True)
    return [local, *(SwitchPort(n, name.replace("_", "-"), True) for name, n in numbers.items())]


def rows(dpid: Dpid, bridge: str, **known: tuple[int | None, str | None]) -> list[InterfaceRow]:
    return [
        InterfaceRow(dpid, bridge, name, iface_id, None, None if number is None else Ofport(number))
        for name, (number, iface_id) in known.items()
    ]


def database(*interfaces: InterfaceRow) -> OvsdbSnapshot:
    bridges = {BridgeRow(row.dpid, row.bridge, "secure") for row in interfaces}
    return OvsdbSnapshot(tuple(sorted(bridges)), interfaces)


def at(dpid: Dpid, number: int) -> Placement:
    return Placement(dpid, Ofport(number))


def test_without_a_database_a_port_is_placed_by_its_hint() -> None:
    places = Placements()
    places.declare(inventory({"web": PortHint(None, "e1"), "db": PortHint("s2", "e1")}))
    places.report_ports(S1, switch_ports("s1", e2=2))
    assert places.snapshot().placements == {}
    places.report_ports(S2, switch_ports("s2", e1=7))
    assert places.bridge_names() == {S1: "s1", S2: "s2"}
    snapshot = places.snapshot()
    assert snapshot.placements == {} and "claim the same OpenFlow port 7" in snapshot.problems[0]
    places.declare(inventory({"db": PortHint("s2", "e1")}))
    assert places.snapshot().placements == {"db": at(S2, 7)}


def test_a_hint_that_fits_two_bridges_places_nothing_and_is_reported() -> None:
    places = Placements()
    places.declare(inventory({"web": PortHint(None, "e1")}))
    places.report_ports(S1, switch_ports("s1", e1=1))
    places.report_ports(S2, switch_ports("s2", e1=1))
    snapshot = places.snapshot()
    assert not snapshot.placements and "say in the inventory which bridge" in snapshot.problems[0]


def test_an_interface_id_wins_over_a_hint() -> None:
    places = Placements()
    places.declare(inventory({"web": PortHint("s1", "e1")}))
    places.report_ports(S1, switch_ports("s1", e1=1, e2=2))
    places.report_interfaces(database(*rows(S1, "s1", e1=(1, None), e2=(2, "web"))))
    assert places.snapshot().placements == {"web": at(S1, 2)}


def test_a_hint_is_never_used_where_the_interface_belongs_to_another_port() -> None:
    places = Placements()
    places.declare(inventory({"web": PortHint("s1", "e1")}))
    places.report_ports(S1, switch_ports("s1", e1=1))
    places.report_interfaces(database(*rows(S1, "s1", e1=(1, "somebody-else"))))
    snapshot = places.snapshot()
    assert not snapshot.placements and "'somebody-else'" in snapshot.problems[0]


def test_no_port_is_placed_while_openflow_and_the_database_disagree() -> None:
    places = Placements()
    places.declare(inventory({"web": None, "db": PortHint("s1", "e2")}))
    places.report_interfaces(database(*rows(S1, "s1", e1=(1, "web"), e2=(None, None))))
    assert not places.snapshot().placements, "the bridge has not reported"
    places.report_ports(S1, switch_ports("s1", e1=5, e2=2))
    assert not places.snapshot().placements, "the numbers differ"
    places.report_ports(S1, switch_ports("s1", other=1, e2=2))
    assert not places.snapshot().placements, "the number is another interface's"
    places.report_ports(S1, switch_ports("s1", e1=1, e2=2))
    assert places.snapshot().placements == {"web": at(S1, 1)}


def test_a_reused_port_number_is_not_the_old_port() -> None:
    places = Placements()
    places.declare(inventory({"web": None, "db": None}))
    places.report_ports(S1, switch_ports("s1", e1=1))
    places.report_interfaces(database(*rows(S1, "s1", e1=(1, "web"))))
    assert places.snapshot().placements == {"web": at(S1, 1)}
    places.report_port(S1, PortChange(PortReason.DELETED, SwitchPort(1, "e1", False)))
    assert not places.snapshot().placements
    places.report_port(S1, PortChange(PortReason.ADDED, SwitchPort(1, "e9", True)))
    assert not places.snapshot().placements
    places.report_interfaces(database(*rows(S1, "s1", e9=(1, "db"))))
    assert places.snapshot().placements == {"db": at(S1, 1)}


def test_of_two_places_the_first_counts_until_it_is_gone_and_the_problem_is_reported() -> None:
    places = Placements()
    places.declare(inventory({"web": None}))
    places.report_ports(S1, switch_ports("s1", e1=1))
    places.report_ports(S2, switch_ports("s2", e1=1))
    here, there = rows(S1, "s1", e1=(1, "web")), rows(S2, "s2", e1=(1, "web"))
    places.report_interfaces(database(*there))
    assert places.snapshot().placements == {"web": at(S2, 1)}
    places.report_interfaces(database(*here, *there))
    snapshot = places.snapshot()
    assert snapshot.placements == {"web": at(S2, 1)}
    assert "at 'e1' of bridge 's2'" in snapshot.problems[0]
    assert "and at 'e1' of bridge 's1'" in snapshot.problems[0]
    assert snapshot.doubts["web"] == snapshot.problems[0]
    places.report_ports(S1, switch_ports("s1", e1=1))
    assert places.snapshot().placements == {"web": at(S2, 1)}, "a reconnect changes nothing"
    places.report_interfaces(database(*here))
    snapshot = places.snapshot()
    assert snapshot.placements == {"web": at(S1, 1)} and not snapshot.problems


def test_two_ports_that_claim_one_place_are_both_not_placed() -> None:
    places = Placements()
    places.declare(inventory({"web": PortHint("s1", "e1"), "db": PortHint(None, "e1")}))
    places.report_ports(S1, switch_ports("s1", e1=1))
    snapshot = places.snapshot()
    assert not snapshot.placements and "none of them is placed" in snapshot.problems[0]


def test_a_link_needs_both_ends_and_shares_no_interface_with_a_port() -> None:
    cable = LinkHint(InterfaceName("s2", "x"), InterfaceName("s1", "y"))
    places = Placements()
    places.declare(inventory({}, (cable,)))
    places.report_ports(S1, switch_ports("s1", y=9))
    snapshot = places.snapshot()
    assert not snapshot.links and "no such interface (yet)" in snapshot.problems[0]
    places.report_ports(S2, switch_ports("s2", x=8))
    assert places.snapshot().links == (Link(at(S1, 9), at(S2, 8)),)
    places.declare(inventory({"web": PortHint("s1", "y")}, (cable,)))
    snapshot = places.snapshot()
    assert not snapshot.links and not snapshot.placements
    places.declare(inventory({}, (cable,)))
    places.report_interfaces(database(*rows(S1, "s1", y=(9, "web"))))
    snapshot = places.snapshot()
    assert not snapshot.links and "'web'" in snapshot.problems[0]


def test_long_interface_names_match_by_their_first_fifteen_bytes() -> None:
    name = "vhostuser-0123456789"
    places = Placements()
    places.declare(inventory({"web": PortHint("s1", name), "db": None}))
    places.report_ports(S1, [SwitchPort(1, name[:15], True), SwitchPort(2, name[:15], True)])
    near = InterfaceRow(S1, "s1", name, None, None, Ofport(1))
    far = InterfaceRow(S1, "s1", name + "x", "db", None, Ofport(2))
    places.report_interfaces(database(near, far))
    assert places.snapshot().placements == {"web": at(S1, 1), "db": at(S1, 2)}


def test_stored_records_count_until_the_bridge_reports() -> None:
    cable = LinkHint(InterfaceName("s1", "x"), InterfaceName("s2", "x"))
    declared = inventory({"web": None, "db": PortHint("s1", "e2")}, (cable,))
    before = Placements()
    before.declare(declared)
    before.report_ports(S1, switch_ports("s1", e1=1, e2=2, x=9))
    before.report_ports(S2, switch_ports("s2", x=9))
    known = rows(S1, "s1", e1=(1, "web"), e2=(2, None), x=(9, None))
    before.report_interfaces(database(*known))
    expected = before.snapshot()

    after = Placements()
    after.declare(declared)
    after.remember(expected.records)
    assert after.snapshot() == expected
    assert after.bridge_names() == {S1: "s1", S2: "s2"}
    after.report_ports(S1, switch_ports("s1", e1=1, e2=2, x=9))
    assert after.snapshot() == expected, "the database comes later: nothing flaps meanwhile"
    after.report_ports(S1, switch_ports("s1", e1=3, e2=2, x=9))
    assert after.snapshot().placements == {"db": at(S1, 2)}, "e1 has another number: who is it?"


def test_two_ports_to_which_a_switch_gives_one_name_stop_nobody() -> None:
    before = Placements()
    before.declare(inventory({"web": None}))
    before.report_ports(S1, switch_ports("s1", e1=1))
    before.report_interfaces(database(*rows(S1, "s1", e1=(1, "web"))))
    known = before.snapshot()
    after = Placements()
    after.remember(known.records, known.places)
    after.declare(inventory({"web": None, "db": PortHint("s2", "e1")}))
    after.report_ports(S1, [*switch_ports("s1", e1=2), *switch_ports("s1", e1=1)])
    after.report_ports(S2, switch_ports("s2", e1=7))
    assert after.snapshot().placements == {"web": at(S1, 1), "db": at(S2, 7)}
    (first, _) = after.snapshot().records
    assert [(row.interface, row.ofport) for row in first.rows] == [("e1", 1), ("e1", 2)]


def test_the_snapshot_is_the_same_value_until_something_is_reported() -> None:
    places = Placements()
    places.report_ports(S1, switch_ports("s1", e1=1))
    assert places.snapshot() is places.snapshot()


Event = Callable[[Placements], None]
NAMES = st.sampled_from(["e1", "e2", "e3"])


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """Final reports of each kind, in two orders; every port has at most one interface id."""
    ports = ["web", "db", "app"]
    hint = st.none() | st.builds(PortHint, st.none() | st.sampled_from(["s1", "s2"]), NAMES)
    cable = LinkHint(InterfaceName("s1", "e3"), InterfaceName("s2", "e3"))
    links = draw(st.sampled_from([(), (cable,)]))
    declared = inventory({name: draw(hint) for name in ports}, links)
    events: list[Event] = [lambda places: places.declare(declared)]
    owners = draw(st.permutations([*ports, "stranger", *[None] * 2]))
    interfaces: list[InterfaceRow] = []
    for dpid, bridge in ((S1, "s1"), (S2, "s2")):
        numbers = {name: number for number, name in enumerate(("e1", "e2", "e3"), 1)}
        for name in draw(st.sets(NAMES)):
            number = draw(st.sampled_from([numbers[name], numbers[name], None, 4]))
            interfaces += rows(dpid, bridge, **{name: (number, owners.pop())})
        seen = switch_ports(bridge, **{n: numbers[n] for n in draw(st.sets(NAMES))})
        events.append(lambda places, d=dpid, s=seen: places.report_ports(d, s))  # type: ignore[misc]
    said = database(*interfaces)
    events.append(lambda places: places.report_interfaces(said))
    return events, draw(st.permutations(events))


@given(histories())
def test_the_order_of_reports_does_not_matter(orders: tuple[list[Event], list[Event]]) -> None:
    snapshots = []
    for events in orders:
        places = Placements()
        for event in events:
            event(places)
        snapshots.append(places.snapshot())
    assert snapshots[0] == snapshots[1]


def test_what_is_on_a_bridge_and_in_no_inventory_is_named() -> None:
    """Not the ends of links, tunnel ports of ours, or other claims to a declared port."""
    here = places_of({"web": PortHint("s1", "e1"), "db": None})
    here.report_ports(S1, switch_ports("s1", e1=1, e2=2, e3=3, e4=4, cv1=5))
    here.report_interfaces(
        database(
            *rows(S1, "s1", e1=(1, None), e2=(2, "db"), e3=(3, None), e4=(4, "x"), cv1=(5, None))
        )
    )
    here.report_ports(S2, switch_ports("s2", e1=1, e9=9))
    assert here.snapshot().placements == {"web": at(S1, 1), "db": at(S1, 2)}
    assert here.undeclared() == {S1: ("e3", "e4")}, "s2 serves nobody"


@pytest.mark.parametrize(
    ("port", "hint", "words"),
    [
        ("app", None, "with external_ids:iface-id 'app' on bridges 's1', 's2': there is none"),
        ("app", PortHint("s9", "e1"), "looked for bridge 's9'.* only bridges 's1', 's2'$"),
        ("app", PortHint("s1", "e33"), "interface 'e33'.* on bridge 's1': .*did you mean 'e3'\\?"),
        ("app", PortHint(None, "zzz"), "on bridges 's1', 's2': there is neither$"),
        ("app", PortHint("s1", "e2"), "'e2' of bridge 's1' is that of port 'db', as its ext"),
        ("gone", None, "interface 'e4' of bridge 's1' is in the database, .* OpenFlow"),
        ("app", PortHint("s1", "e5"), "'e5' of bridge 's1' was not opened by .*: No such device"),
        ("broken", None, "'e5' of bridge 's1' was not opened by Open vSwitch: No such device"),
        ("app", PortHint("s1", "e1"), "claimed by something else, too"),
    ],
)
def test_why_a_declared_port_is_nowhere_is_said(
    port: str, hint: PortHint | None, words: str
) -> None:
    here = places_of({"web": PortHint("s1", "e1"), "db": None, port: hint})
    here.report_ports(S1, switch_ports("s1", e1=1, e2=2, e3=3))
    row = {"e1": (1, None), "e2": (2, "db"), "e3": (3, None), "e4": (4, "gone"), "e5": (None, None)}
    rows_of_s1 = rows(S1, "s1", **row)
    owner = "broken" if port == "broken" else None
    rows_of_s1[-1] = replace(rows_of_s1[-1], error="No such device", iface_id=owner)
    here.report_interfaces(database(*rows_of_s1))
    here.report_ports(S2, switch_ports("s2", e7=7))
    assert port not in here.snapshot().placements

    assert re.search(words, here.looked_for([PortId(port)])[PortId(port)])


def test_a_port_without_any_bridge_says_how_to_connect_one() -> None:
    places = places_of({"web": None})
    places.snapshot()
    assert "ovs-vsctl set-controller" in places.looked_for([PortId("web")])[PortId("web")]


def test_interfaces_that_were_not_opened_are_told_with_their_error() -> None:
    here = places_of({"web": PortHint("s1", "e1")})
    here.report_ports(S1, switch_ports("s1", e1=1))
    good, bad = rows(S1, "s1", e1=(1, None), e2=(None, None))
    here.report_interfaces(database(good, replace(bad, error="No such device")))
    here.snapshot()
    assert [(row.name, row.error) for row in here.unopened()] == [("e2", "No such device")]
    here.report_interfaces(database(good, replace(bad, ofport=Ofport(2))))
    here.snapshot()
    assert not here.unopened()


def places_of(hints: Mapping[str, PortHint | None]) -> Placements:
    places = Placements()
    places.declare(inventory(hints))
    return places
