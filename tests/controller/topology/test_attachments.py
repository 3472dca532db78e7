"""Bridges of others that are tapped: what is placed there, and what is never done to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from controller.inventory import InterfaceName, Inventory, LinkHint
from controller.inventory.values import PortHint
from controller.southbound import PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import BridgeRow, InterfaceRow, OvsdbSnapshot, tunnel_name
from controller.southbound.ovsdb.rows import MirrorRow
from controller.store import BridgeRecord
from controller.topology import Placements
from controller.topology.attachments import Attachments
from controller.topology.bridge_state import NO_NUMBER
from controller.topology.placements import PlacementsSnapshot, PortNews, is_news
from controller.topology.tunnels import find_tunnels
from flows.model import (
    MIRRORS_MAX,
    Attachment,
    Dpid,
    MirrorKey,
    Ofport,
    OwnerPort,
    Placement,
    PortId,
    PortKind,
    TunnelKind,
)
from tests.controller.topology.test_identity import HOST1, HOST2, said, together
from tests.controller.topology.test_placements import S1, at, inventory, switch_ports

OWNER, TAP = Dpid(0xA1), Dpid(0xC1)
OTHER_OWNER, OTHER_TAP = Dpid(0xA2), Dpid(0xC2)
WEB = MirrorKey(frozenset(["port row of vm1"]), frozenset())
Number = int | None


def bridge(dpid: Dpid, name: str, taps: str = "", at: str = HOST1) -> BridgeRow:
    return BridgeRow(dpid, name, "secure", "netdev", at, f"row of {name} at {at}", taps=taps)


def interface(
    of: BridgeRow, name: str, number: Number, iface_id: str | None = None, mirror: str = ""
) -> InterfaceRow:
    return InterfaceRow(
        of.dpid, of.name, name, iface_id, None, None if number is None else Ofport(number),
        database=of.database, bridge_row=of.row, port=OwnerPort(f"port row of {name}"),
        mirror=mirror,
    )  # fmt: skip


def database(*bridges: BridgeRow, rows: Iterable[InterfaceRow] = ()) -> OvsdbSnapshot:
    return OvsdbSnapshot(tuple(sorted(bridges)), tuple(rows))


BR_INT = bridge(OWNER, "br-int")
CT = bridge(TAP, "ct-br-int", "br-int")
LOCAL = interface(BR_INT, "br-int", None)
VM1, VM2 = interface(BR_INT, "vm1", 5, "web"), interface(BR_INT, "vm2", 6, "db")
SENSOR = interface(CT, "ids0", 1, "ids")


MIRROR = "ctm0123456789ab"
OWNER_END = interface(BR_INT, MIRROR, 20, mirror=MIRROR)
TAP_END = interface(CT, "ctp0123456789ab", 3, mirror=MIRROR)
MADE = MirrorRow(MIRROR, *WEB)


def host(
    *rows: InterfaceRow, owner: BridgeRow = BR_INT, tap: BridgeRow | None = CT
) -> OvsdbSnapshot:
    """A host whose br-int is tapped, with the sensor on its tap bridge."""
    bridges = (owner,) if tap is None else (owner, tap)
    return database(*bridges, rows=(LOCAL, *rows, *([] if tap is None else [SENSOR])))


def declared(*workloads: str, **hints: PortHint | None) -> Inventory:
    """Workloads, and the tap port ``ids``."""
    known = dict.fromkeys(workloads) | {"ids": None} | hints
    found = inventory(known)
    ports = tuple(
        replace(port, kind=PortKind.TAP, network=None, mac=None) if port.id == "ids" else port
        for port in found.ports
    )
    return replace(found, ports=ports)


def tapped(number: int, tap: Dpid = TAP, owner: Dpid = OWNER) -> Placement:
    return Placement(tap, Ofport(number), owner)


def started(*rows: InterfaceRow, of: Inventory | None = None) -> Placements:
    places = Placements()
    places.declare(of or declared("web", "db"))
    places.report_ports(TAP, switch_ports("ct-br-int", ids0=1))
    places.report_interfaces(host(*rows))
    return places


def take(
    *bridges: BridgeRow, rows: Iterable[InterfaceRow] = ()
) -> tuple[Mapping[Dpid, Attachment], str]:
    """The attachments among these rows, and all problems in one text."""
    found = Attachments().take(database(*bridges, rows=rows), lambda dpid: False)
    return found.by_tap, "\n".join(found.problems)


class TestWhichBridgesAreTapped:
    def test_the_mark_of_a_tap_bridge_attaches_the_bridge_that_it_names(self) -> None:
        assert take(BR_INT, CT) == ({TAP: Attachment(OWNER, name="ct-br-int")}, "")
        assert take(BR_INT) == ({}, "")

    @pytest.mark.parametrize(
        ("bridges", "problem"),
        [
            ([replace(CT, taps=CT.name)], "tapping itself"),
            ([CT], "its database has no bridge 'br-int'"),
            ([bridge(OWNER, "br-int", at=HOST2), CT], "its database has no bridge 'br-int'"),
            ([replace(BR_INT, datapath_type=""), CT], "datapath type 'system' and it has 'netdev'"),
            ([replace(BR_INT, dpid=Dpid(0)), CT], "its database has no bridge 'br-int'"),
            ([BR_INT, replace(BR_INT, dpid=OTHER_OWNER, row="2"), CT], "has no bridge 'br-int'"),
            ([replace(BR_INT, taps=CT.name), CT], "is a tap bridge itself"),
        ],
    )
    def test_marks_that_name_no_bridge_of_somebody_else_attach_nothing(
        self, bridges: list[BridgeRow], problem: str
    ) -> None:
        by_tap, problems = take(*bridges)
        assert not by_tap and problem in problems and "'ct-br-int'" in problems

    def test_a_chain_of_tap_bridges_attaches_only_what_is_no_tap_bridge(self) -> None:
        third = bridge(OTHER_TAP, "ct-ct", "ct-br-int")
        by_tap, problems = take(BR_INT, CT, third)
        assert by_tap == {TAP: Attachment(OWNER, name="ct-br-int")} and "'ct-ct'" in problems

    def test_of_two_tap_bridges_for_one_bridge_none_counts(self) -> None:
        by_tap, problems = take(BR_INT, CT, bridge(OTHER_TAP, "second", "br-int"))
        assert not by_tap
        assert "'ct-br-int'" in problems and "'second'" in problems and "2 bridges" in problems

    def test_bridges_of_one_name_on_two_hosts_are_two_attachments(self) -> None:
        there = bridge(OTHER_OWNER, "br-int", at=HOST2)
        tap = bridge(OTHER_TAP, "ct-br-int", "br-int", at=HOST2)
        by_tap, problems = take(BR_INT, CT, there, tap)
        assert by_tap == {
            TAP: Attachment(OWNER, name="ct-br-int"),
            OTHER_TAP: Attachment(OTHER_OWNER, name="ct-br-int"),
        }
        assert not problems

    def test_a_bridge_that_is_owned_is_not_attached(self) -> None:
        found = Attachments().take(database(BR_INT, CT), lambda dpid: dpid == OWNER)
        assert not found.by_tap and "has connected to this controller itself" in found.problems[0]


class TestMirrors:
    def found(
        self, *mirrors: MirrorRow, rows: Iterable[InterfaceRow], others: int = 0
    ) -> Attachment:
        owner = replace(BR_INT, mirrors=mirrors, other_mirrors=others)
        return take(owner, CT, rows=rows)[0][TAP]

    def test_one_counts_once_its_copies_arrive_at_a_port_of_the_tap_bridge(self) -> None:
        ends = (OWNER_END, TAP_END)
        assert self.found(MADE, rows=ends).mirrors == {WEB: 3}
        assert not self.found(MADE, rows=[OWNER_END]).mirrors
        assert not self.found(MADE, rows=[replace(TAP_END, ofport=None)]).mirrors
        assert not self.found(rows=ends).mirrors, "a patch alone copies nothing"

    @pytest.mark.parametrize(
        "rows",
        [
            [OWNER_END, replace(TAP_END, error="no such peer")],
            [replace(OWNER_END, error="no such peer"), TAP_END],
            [OWNER_END, TAP_END, replace(TAP_END, name="another", ofport=Ofport(4))],
        ],
    )
    def test_one_with_a_broken_or_a_doubtful_patch_does_not_count(
        self, rows: list[InterfaceRow]
    ) -> None:
        assert not self.found(MADE, rows=rows).mirrors

    def test_one_that_somebody_altered_and_two_of_one_name_do_not_count(self) -> None:
        ends = (OWNER_END, TAP_END)
        assert not self.found(replace(MADE, is_altered=True), rows=ends).mirrors
        assert not self.found(MADE, replace(MADE, targets=WEB.sources), rows=ends).mirrors

    def test_room_is_what_the_mirrors_of_others_leave(self) -> None:
        assert self.found(rows=[], others=2).room == MIRRORS_MAX - 2
        assert self.found(rows=[], others=99).room == 0

    def test_what_has_not_changed_is_the_same_object(self) -> None:
        attachments = Attachments()
        ends = (OWNER_END, TAP_END)
        owner = replace(BR_INT, mirrors=(MADE,))
        seen = database(owner, CT, rows=ends)
        first = attachments.take(seen, lambda dpid: False)
        assert attachments.take(seen, lambda dpid: False) is first
        more = database(owner, CT, rows=(*ends, VM1))
        again = attachments.take(more, lambda dpid: False)
        assert again is first, "another port of the owner's bridge changes no Mirror"
        gone = attachments.take(database(BR_INT, CT, rows=ends), lambda dpid: False)
        assert gone is not first and not gone.by_tap[TAP].mirrors

    def test_their_patch_ports_are_no_undeclared_ports_and_nobody_elses(self) -> None:
        ends = (replace(OWNER_END, iface_id="web"), TAP_END)
        hint = PortHint("ct-br-int", TAP_END.name)
        places = started(VM2, *ends, of=declared("web", "db", x=hint))
        places.report_ports(TAP, switch_ports("ct-br-int", ids0=1, ctp0123456789ab=3))
        snapshot = places.snapshot()
        assert snapshot.placements == {"db": tapped(6), "ids": at(TAP, 1)}
        assert not snapshot.undeclared


class TestPlaces:
    def test_a_workload_of_a_tapped_bridge_is_placed_by_the_database_alone(self) -> None:
        snapshot = started(VM1, VM2).snapshot()
        assert snapshot.placements == {"web": tapped(5), "db": tapped(6), "ids": at(TAP, 1)}
        assert snapshot.places["port web"] == (OWNER, "vm1")
        attachment = snapshot.attachments[TAP]
        assert attachment.owner == OWNER
        assert attachment.ports == {
            5: OwnerPort("port row of vm1"),
            6: OwnerPort("port row of vm2"),
        }
        assert not snapshot.problems

    def test_without_a_number_or_with_an_error_it_is_not_placed_and_the_bridge_is_named(
        self,
    ) -> None:
        places = started(replace(VM1, ofport=None), replace(VM2, error="no such device"))
        assert places.snapshot().placements == {"ids": at(TAP, 1)}
        why = places.looked_for([PortId("web"), PortId("db")])
        assert "'vm1' of bridge 'br-int'" in why[PortId("web")]
        assert "no OpenFlow port number" in why[PortId("web")]
        assert "'vm2' of bridge 'br-int'" in why[PortId("db")]
        assert "no such device" in why[PortId("db")]

    def test_two_interfaces_with_one_number_are_not_told_apart(self) -> None:
        places = started(VM1, replace(VM2, ofport=VM1.ofport))
        assert places.snapshot().placements == {"ids": at(TAP, 1)}

    def test_an_interface_of_a_bond_has_no_port_of_its_own_to_copy(self) -> None:
        snapshot = started(VM1, replace(VM2, port=VM1.port)).snapshot()
        assert snapshot.placements["web"] == tapped(5)
        assert not snapshot.attachments[TAP].ports

    def test_the_bridge_that_should_connect_is_the_tap_bridge(self) -> None:
        places = started(VM1, of=declared("web", db=PortHint("br-int", "none")))
        assert places.snapshot().expected == {TAP}
        assert places.bridge_names() == {TAP: "ct-br-int"}
        assert places.knows(OWNER) and places.bridge_name(OWNER) == "br-int"
        why = places.looked_for([PortId("db")])[PortId("db")]
        assert "on bridge 'br-int': there is neither" in why

    def test_a_hint_places_a_workload_there_too(self) -> None:
        plain = replace(VM1, iface_id=None)
        places = started(plain, of=declared(web=PortHint("br-int", "vm1")))
        assert places.snapshot().placements["web"] == tapped(5)

    def test_a_tap_port_or_a_link_on_an_owners_bridge_is_refused(self) -> None:
        misplaced = interface(BR_INT, "ids1", 7, "ids")
        cable = interface(BR_INT, "cable", 8)
        link = LinkHint(InterfaceName("br-int", "cable"), InterfaceName("s1", "e9"))
        places = Placements()
        places.declare(replace(declared("web"), links=(link,)))
        places.report_ports(S1, switch_ports("s1", e9=9))
        there = database(BR_INT, CT, rows=(LOCAL, VM1, misplaced, cable))
        places.report_interfaces(together(there, said(S1, "s1", HOST2, {"e9": (9, None)})))
        snapshot = places.snapshot()
        assert snapshot.placements == {"web": tapped(5)} and not snapshot.links
        problems = "\n".join(snapshot.problems)
        assert "tap port 'ids' is not placed at 'ids1' of bridge 'br-int'" in problems
        assert "must be on its tap bridge 'ct-br-int'" in problems
        assert "'cable' of bridge 'br-int'" in problems and "nothing is ever sent into" in problems
        assert "see the problem" in places.looked_for([PortId("ids")])[PortId("ids")]

    def test_a_tap_port_that_is_also_at_the_tap_bridge_is_placed_there(self) -> None:
        places = started(interface(BR_INT, "ids1", 7, "ids"))
        snapshot = places.snapshot()
        assert snapshot.placements == {"ids": at(TAP, 1)} and len(snapshot.problems) == 1

    def test_tunnel_ports_are_looked_for_on_the_tap_bridge_alone(self) -> None:
        hostile = interface(BR_INT, tunnel_name(OWNER, TunnelKind.VXLAN), 9)
        records = started(VM1, hostile).snapshot().records
        assert not find_tunnels(records, OvsdbSnapshot())


class TestTime:
    def test_attach_and_detach_while_workloads_run(self) -> None:
        places = Placements()
        places.declare(declared("web", "db"))
        places.report_interfaces(host(VM1, tap=None))
        before = places.snapshot()
        assert not before.placements and OWNER in places.bridge_names(), "as any bridge"
        places.report_interfaces(host(VM1))
        attached = places.snapshot()
        assert attached.placements["web"] == tapped(5) and is_news(before, attached)
        assert places.bridge_names() == {TAP: "ct-br-int"}
        places.report_interfaces(host(VM1, tap=None))
        detached = places.snapshot()
        assert not detached.placements and not detached.attachments
        assert is_news(attached, detached)
        assert OWNER not in places.bridge_names(), "nobody waits for it to connect"
        places.report_interfaces(host(VM1))
        assert places.snapshot().placements["web"] == tapped(5)

    def test_the_tap_bridge_goes_away_and_comes_back(self) -> None:
        places = started(VM1)
        before = places.snapshot()
        places.report_ports(TAP, switch_ports("ct-br-int", ids0=1))
        after = places.snapshot()
        assert after.placements is before.placements
        assert after.attachments is before.attachments and not is_news(before, after)

    def test_a_database_that_is_lost_and_comes_back_changes_nothing(self) -> None:
        places = started(VM1)
        before = places.snapshot()
        places.report_interfaces(host(replace(VM1)))  # equal rows, other objects
        after = places.snapshot()
        assert after.placements is before.placements and after.attachments is before.attachments

    def test_a_database_that_is_configured_no_more_takes_its_ports_along(self) -> None:
        places = started(VM1)
        assert "web" in places.snapshot().placements
        places.report_interfaces(OvsdbSnapshot())
        snapshot = places.snapshot()
        assert "web" not in snapshot.placements and not snapshot.attachments
        assert "port web" not in snapshot.places

    def test_ports_of_others_on_the_bridge_are_no_news(self) -> None:
        places = started(VM1)
        before = places.snapshot()
        places.report_interfaces(host(VM1, interface(BR_INT, "vm9", 9, "a-stranger")))
        assert not is_news(before, places.snapshot())

    def test_a_mirror_that_was_made_is_news(self) -> None:
        places = started(VM1)
        before = places.snapshot()
        owner = replace(BR_INT, mirrors=(MADE,))
        places.report_interfaces(host(VM1, TAP_END, owner=owner))
        after = places.snapshot()
        assert after.attachments[TAP].mirrors == {WEB: 3} and is_news(before, after)
        assert after.placements is before.placements

    def test_a_port_that_is_made_anew_has_another_number_and_another_row(self) -> None:
        places = started(VM1)
        places.report_interfaces(host())
        assert "web" not in places.snapshot().placements
        new = replace(VM1, ofport=Ofport(8), port=OwnerPort("another row"))
        places.report_interfaces(host(new))
        snapshot = places.snapshot()
        assert snapshot.placements["web"] == tapped(8)
        assert snapshot.attachments[TAP].ports == {8: OwnerPort("another row")}

    def test_a_port_that_is_made_anew_with_its_number_has_another_row(self) -> None:
        places = started(VM1)
        before = places.snapshot()
        places.report_interfaces(host(replace(VM1, port=OwnerPort("another row"))))
        after = places.snapshot()
        assert after.placements is before.placements and is_news(before, after)
        assert after.attachments[TAP].ports == {5: OwnerPort("another row")}

    def test_a_number_that_passes_to_another_port_takes_no_row_along(self) -> None:
        places = started(VM1)
        places.report_interfaces(host(replace(VM2, ofport=VM1.ofport)))
        snapshot = places.snapshot()
        assert snapshot.placements == {"db": tapped(5), "ids": at(TAP, 1)}
        assert snapshot.attachments[TAP].ports == {5: OwnerPort("port row of vm2")}

    def test_a_workload_moves_from_an_owned_bridge_to_a_tapped_one_and_back(self) -> None:
        places = started()
        owned = {"e1": (1, "web")}
        places.report_ports(S1, switch_ports("s1", e1=1))
        places.report_interfaces(together(host(), said(S1, "s1", HOST2, owned)))
        assert places.snapshot().placements["web"] == at(S1, 1)
        both = together(host(VM1), said(S1, "s1", HOST2, owned))
        places.report_interfaces(both)
        snapshot = places.snapshot()
        assert snapshot.placements["web"] == at(S1, 1)
        assert snapshot.contests["web"] == (tapped(5),)
        assert snapshot.attachments[TAP].ports.keys() == {5}
        assert "'vm1' of bridge 'br-int'" in snapshot.doubts["web"]
        assert not places.move(PortId("web"), at(OWNER, 5)), "nobody is told of such a place"
        assert places.move(PortId("web"), tapped(5))
        snapshot = places.snapshot()
        assert snapshot.placements["web"] == tapped(5) and snapshot.contests["web"] == (at(S1, 1),)
        places.report_interfaces(together(host(), said(S1, "s1", HOST2, owned)))
        assert places.snapshot().placements["web"] == at(S1, 1)

    def test_a_tapped_bridge_with_another_datapath_id_keeps_its_ports(self) -> None:
        places = started(VM1)
        assert places.snapshot().placements["web"] == tapped(5)
        new = replace(BR_INT, dpid=OTHER_OWNER)
        rows = [replace(row, dpid=OTHER_OWNER) for row in (LOCAL, VM1)]
        places.report_interfaces(database(new, CT, rows=(*rows, SENSOR)))
        snapshot = places.snapshot()
        assert snapshot.placements["web"] == tapped(5, owner=OTHER_OWNER)
        assert snapshot.places["port web"] == (OTHER_OWNER, "vm1")
        assert snapshot.attachments[TAP].owner == OTHER_OWNER
        assert places.take_moves() == [{OWNER: OTHER_OWNER}]

    def test_two_tapped_bridges_of_one_host_have_their_own_ports(self) -> None:
        second = bridge(OTHER_OWNER, "br-two")
        tap = bridge(OTHER_TAP, "ct-br-two", "br-two")
        places = started(VM1)
        rows = (LOCAL, VM1, SENSOR, interface(second, "vm3", 5, "db"))
        places.report_interfaces(database(BR_INT, CT, second, tap, rows=rows))
        snapshot = places.snapshot()
        there = tapped(5, OTHER_TAP, OTHER_OWNER)
        assert snapshot.placements == {"web": tapped(5), "db": there, "ids": at(TAP, 1)}
        assert {tap: each.ports for tap, each in snapshot.attachments.items()} == {
            TAP: {5: OwnerPort("port row of vm1")},
            OTHER_TAP: {5: OwnerPort("port row of vm3")},
        }


def restarted(before: PlacementsSnapshot) -> Placements:
    """A controller that starts with what was stored of a snapshot."""
    after = Placements()
    after.remember(before.records, before.places)
    after.declare(declared("web", "db"))
    return after


class TestRestart:
    def test_before_the_database_has_reported_a_workload_is_nowhere_and_its_place_is_kept(
        self,
    ) -> None:
        before = started(VM1).snapshot()
        after = restarted(before)
        early = after.snapshot()
        assert "web" not in early.placements and early.places["port web"] == (OWNER, "vm1")
        assert OWNER not in after.bridge_names() and after.knows(OWNER)
        after.report_interfaces(together(host(VM1), said(S1, "s1", HOST2, {"e1": (1, "web")})))
        after.report_ports(S1, switch_ports("s1", e1=1))
        snapshot = after.snapshot()
        assert snapshot.placements["web"] == tapped(5), "the first place counts"
        assert snapshot.contests["web"] == (at(S1, 1),)

    def test_a_bridge_that_was_detached_meanwhile_is_one_that_only_a_database_knows(self) -> None:
        after = restarted(started(VM1).snapshot())
        after.report_interfaces(host(VM1, tap=None))
        snapshot = after.snapshot()
        assert "web" not in snapshot.placements and OWNER not in after.bridge_names()
        again = restarted(snapshot)
        again.report_interfaces(host(VM1, tap=None))
        assert "web" not in again.snapshot().placements and OWNER not in again.bridge_names()
        assert not after.why_not_ours(OWNER), "it may become ours"
        after.report_ports(OWNER, switch_ports("br-int", vm1=5))
        assert after.snapshot().placements["web"] == at(OWNER, 5)
        assert after.bridge_names()[OWNER] == "br-int"

    def test_the_record_of_a_tapped_bridge_has_no_openflow_numbers(self) -> None:
        records = {record.dpid: record for record in started(VM1).snapshot().records}
        assert {row.ofport for row in records[OWNER].rows} == {NO_NUMBER}
        assert {row.interface for row in records[OWNER].rows} == {"br-int", "vm1"}
        assert {row.ofport for row in records[TAP].rows} == {1}

    def test_one_that_was_tapped_is_not_taken_for_ours_before_its_database_says_so(self) -> None:
        after = restarted(started(VM1).snapshot())
        assert "its database has not said" in after.why_another(OWNER, {"vm1"})
        after.report_interfaces(host(VM1, tap=None))
        assert not after.why_another(OWNER, {"vm1"}) and not after.why_not_ours(OWNER)


class TestABridgeThatConnectsItself:
    def test_one_that_is_tapped_is_not_ours_whatever_it_reports(self) -> None:
        places = started(VM1)
        before = places.snapshot()
        assert "'ct-br-int' gets copies from it" in places.why_not_ours(OWNER)
        assert not places.why_not_ours(TAP)
        places.report_ports(OWNER, switch_ports("br-int", vm1=9))
        change = PortChange(PortReason.ADDED, SwitchPort(9, "vm1", True))
        assert places.report_port(OWNER, change) is PortNews.NONE
        assert places.snapshot() is before and OWNER not in places.bridge_names()
        assert not places.tapped_callers(lambda dpid: dpid == TAP)
        (problem,) = places.tapped_callers(lambda dpid: dpid == OWNER)
        assert "bridge 'br-int' is left alone" in problem and "get-controller br-int" in problem

    def test_one_that_is_owned_is_not_attached_until_it_is_forgotten(self) -> None:
        places = Placements()
        places.declare(declared("web", "db"))
        places.report_ports(OWNER, switch_ports("br-int", vm1=5))
        places.report_interfaces(host(VM1))
        snapshot = places.snapshot()
        assert snapshot.placements["web"] == at(OWNER, 5) and not snapshot.attachments
        assert "owns it" in snapshot.problems[0] and not places.why_not_ours(OWNER)
        after = restarted(snapshot)
        after.report_interfaces(host(VM1))
        kept = after.snapshot()
        assert kept.placements["web"] == at(OWNER, 5) and not kept.attachments
        for each in (places, after):
            each.forget(OWNER)
            snapshot = each.snapshot()
            assert snapshot.placements["web"] == tapped(5) and not snapshot.problems

    def test_what_is_forgotten_with_a_tap_bridge_counts_again_when_that_connects(self) -> None:
        places = started(VM1)
        assert places.tapped_by(TAP) == OWNER and places.tapped_by(OWNER) is None
        for dpid in (TAP, OWNER):
            places.forget(dpid)
        snapshot = places.snapshot()
        assert not snapshot.placements and not snapshot.attachments and not snapshot.places
        places.report_interfaces(host(VM1, VM2))
        assert not places.snapshot().placements
        places.report_ports(TAP, switch_ports("ct-br-int", ids0=1))
        assert places.snapshot().placements == {
            "web": tapped(5), "db": tapped(6), "ids": at(TAP, 1),
        }  # fmt: skip

    def test_a_tap_bridge_with_nothing_of_its_own_is_no_stranger(self) -> None:
        places = Placements()
        places.declare(declared("web"))
        places.report_ports(TAP, switch_ports("ct-br-int"))
        places.report_interfaces(database(BR_INT, CT, rows=(LOCAL, VM1)))
        assert not places.strangers() and not places.drop_stranger(TAP)
        places.report_interfaces(database(BR_INT, CT, rows=(LOCAL,)))
        assert places.strangers() == {TAP}


def test_a_stored_bridge_without_interfaces_is_ours_as_before() -> None:
    places = Placements()
    places.remember([BridgeRecord(S1, "s1")])
    assert places.bridge_names() == {S1: "s1"}
